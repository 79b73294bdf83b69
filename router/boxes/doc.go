// Package boxes knows the other boxes of the fleet as the router sees them: the servers on
// them, as backends, and which calls come from them. cmd/internal/fleet/ownbox keeps it up to
// date. It chooses no box: package pick does.
package boxes
