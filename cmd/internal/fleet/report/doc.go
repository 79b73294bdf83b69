// Package report answers for the whole fleet what the control API answers for one box: it asks
// the control API of each box, with one message over NATS and within two seconds, and adds up
// the answers. cmd/internal/daemon owns its Service, which a fleet.Member runs, and gives it
// the API of this box. It decides nothing, and no call of a client waits for it.
//
// A call is recorded only by the box that the client has called, so that sums over boxes are
// exact. A report names the boxes that it lacks.
package report
