// Package fleetconfig keeps the configuration that the boxes of a fleet share: the sections
// `keys`, `routes` and `budget` of llmsup.yaml, as a document with a version in a JetStream
// bucket. cmd/internal/daemon owns a Manager, which pushes documents for llmsup fleet push, and
// has the daemon apply each new one as a reload does. cmd/llmsup reads the last one at a start.
//
// The document with the highest version counts. A box never goes back to a lower one: it puts
// its own into the bucket again instead. So an outsider who sends an old document again, or a
// NATS server that has lost its disk, changes nothing.
package fleetconfig
