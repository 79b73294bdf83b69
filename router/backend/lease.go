package backend

import (
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/wire"
)

// Ending is how a call ended at its backend.
type Ending int

// What Ending may be.
const (
	Aborted Ending = iota // the backend may continue to work on the call for a while
	Errored               // the call is over there, without an answer
	Completed
)

// Lease is what a call holds at a backend from its admission to its end: its slots, and
// its share of the backend's load.
type Lease struct {
	Form *aggregate.Form // the form of the body that is sent; nil = as the client wrote it
	Gone <-chan struct{} // closed when the process that accepted the call has exited; nil = unknown

	load   *Load
	finish func(Ending)                      // releases the slots; nil = there are none
	report func(f *Failure, clientGone bool) // to the circuit breaker; nil = there is none

	began   time.Time        // when the call got its slots
	prompts *pick.PromptRate // of the server; nil = it is not measured

	released atomic.Bool
	bound    atomic.Bool
}

// NewLease counts a call of a backend. finish releases the call's slots; nil = it has
// none.
func NewLease(load *Load, finish func(Ending)) *Lease {
	load.total.Add(1)
	return newLease(load, finish)
}

// newLease is NewLease for a request about a server. It is no call of the model, and does not
// keep it loaded.
func newLease(load *Load, finish func(Ending)) *Lease {
	load.inflight.Add(1)
	load.waiting.Add(1)
	return &Lease{load: load, finish: finish}
}

// Release ends the lease. Only the first call of Release has an effect.
func (l *Lease) Release(how Ending) {
	if !l.released.CompareAndSwap(false, true) {
		return
	}
	l.load.waiting.Add(-1)
	l.load.inflight.Add(-1)
	if l.bound.Load() {
		l.load.bound.Add(-1)
	}
	if l.finish != nil {
		l.finish(how)
	}
}

// Bind says that no other backend can continue the call. Only the goroutine that releases the lease
// may call it.
func (l *Lease) Bind() {
	if !l.released.Load() && l.bound.CompareAndSwap(false, true) {
		l.load.bound.Add(1)
	}
}

// Report reports the outcome of the call to the circuit breaker: its failure, nil if it
// was answered, and whether its client closed the connection.
func (l *Lease) Report(f *Failure, clientGone bool) {
	if l.report != nil {
		l.report(f, clientGone)
	}
}

// Prompt measures how long a server took until an answer began, of the usage that it reports
// of the call: nothing is known of a server that does not report cached tokens.
func (l *Lease) Prompt(u wire.Usage, first time.Time) {
	if l.prompts != nil && u.Prompt != nil && u.Cached != nil {
		l.prompts.Observe(*u.Prompt-*u.Cached, first.Sub(l.began))
	}
}

// Received counts bytes of the answer.
func (l *Lease) Received(n int) { l.load.output.Add(int64(n)) }

// Pause marks the call as waiting for its client instead of the backend, until Resume.
// It returns false if the lease has been released; then Resume must not be called.
func (l *Lease) Pause() bool {
	if l.released.Load() {
		return false
	}
	l.load.waiting.Add(-1)
	return true
}

// Resume ends a Pause.
func (l *Lease) Resume() { l.load.waiting.Add(1) }
