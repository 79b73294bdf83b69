// Package output keeps what a server's process prints: it cuts it into lines
// (lines.go), keeps the last of them for `llmsup logs` (ring.go) and for the
// report on an exit (tail.go), and copies them into llmsup's log (log.go).
//
// Package supervisor calls it; cmd/internal/daemon reads the Lines. All of it is
// bounded, and writing never waits for a reader: a reader that is too slow
// misses lines and learns how many. It does not know what a line means: log.go asks
// its caller, which also keeps users' prompts out of the log.
package output
