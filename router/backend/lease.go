package backend

import (
	"sync/atomic"

	"github.com/llmsup/llmsup/router/aggregate"
)

// Ending is how a call ended at its backend.
type Ending int

// What Ending may be.
const (
	Aborted   Ending = iota // the backend may go on with the call for a while
	WithError               // the call is over there, without an answer
	WithAnswer
)

// Lease is what a call holds at a backend from its admission to its end: its slots, and
// its part of the backend's load.
type Lease struct {
	Form *aggregate.Form // in which the call is sent; nil = as the client wrote it
	Gone <-chan struct{} // closed when the process that took the call has ended; nil = none is known

	load   *Load
	finish func(Ending)                      // gives back the slots; nil = there are none
	report func(f *Failure, clientGone bool) // to the circuit breaker; nil = there is none

	released atomic.Bool
}

// NewLease counts a call that a backend has. finish gives back its slots; nil = it has
// none.
func NewLease(load *Load, finish func(Ending)) *Lease {
	load.inflight.Add(1)
	load.waiting.Add(1)
	return &Lease{load: load, finish: finish}
}

// Release gives the lease back. Only the first call counts.
func (l *Lease) Release(how Ending) {
	if !l.released.CompareAndSwap(false, true) {
		return
	}
	l.load.waiting.Add(-1)
	l.load.inflight.Add(-1)
	if l.finish != nil {
		l.finish(how)
	}
}

// Report reports how the call went: its failure, nil if it was answered, and whether
// its client closed the connection.
func (l *Lease) Report(f *Failure, clientGone bool) {
	if l.report != nil {
		l.report(f, clientGone)
	}
}

// Received counts bytes of the answer.
func (l *Lease) Received(n int) { l.load.output.Add(int64(n)) }

// Pause takes the call out of those that wait for the backend, while it waits for its
// client, until Resume. It returns false if the call holds no lease any more; there is
// nothing to resume then.
func (l *Lease) Pause() bool {
	if l.released.Load() {
		return false
	}
	l.load.waiting.Add(-1)
	return true
}

// Resume ends a Pause.
func (l *Lease) Resume() { l.load.waiting.Add(1) }
