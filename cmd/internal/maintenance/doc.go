// Package maintenance takes servers out of use for an operator and back into it: drain,
// resume and restart. It remembers which servers are drained, and until when, over a
// restart of llmsup, ends a drain when its time is over, and reports each step from the
// snapshots of the servers. cmd/internal/daemon calls it for the control API and after a
// reload. It never starts or stops a process itself (the supervisor does, at its
// request), and never decides which servers there are or where calls go.
package maintenance
