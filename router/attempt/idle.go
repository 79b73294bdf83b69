package attempt

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// idleWatchdog cancels an attempt whose stream is silent, or has nothing but comments, for
// too long. The time in which the client does not read does not count.
//
// It checks the stream a few times in an idle time: reading the clock and setting a timer
// for each event would cost more than everything else that is done for the event.
type idleWatchdog struct {
	clock  *time.Timer
	ticks  atomic.Int64  // since it began
	state  atomic.Uint64 // of the stream: see expect
	silent atomic.Bool   // it was, for too long
	over   atomic.Bool

	events, waits uint32 // that are no comments, and waits for one; only the stream's reader uses them
}

const (
	// TicksPerIdle is how often the stream is checked in an idle time.
	TicksPerIdle = 8
	// CommentLimit is how long a backend may send comments alone once an answer has
	// begun, in idle times.
	CommentLimit = 10
)

// expect writes down whether the stream's next event is waited for.
func (w *idleWatchdog) expect(waiting bool) {
	state := uint64(w.events)<<32 | uint64(w.waits&(1<<31-1))<<1
	if waiting {
		state |= 1
	}
	w.state.Store(state)
}

// Watch watches the stream from now on, if it may not be silent for ever.
func (a *Answer) Watch() {
	w := &a.watchdog
	if a.idle == 0 || w.clock != nil {
		return
	}
	var seen uint64
	var quiet, vain int // ticks of the same wait, and of all waits since the last event
	cancel, tick := a.cancel, max(a.idle/TicksPerIdle, time.Millisecond)
	begun := make(chan struct{}) // w.clock is there
	w.clock = time.AfterFunc(tick, func() {
		<-begun
		w.ticks.Add(1)
		now := w.state.Load()
		if now>>32 != seen>>32 {
			vain = 0
		}
		if quiet++; now != seen {
			quiet = 0
		}
		if now&1 == 0 {
			quiet = 0
		} else {
			vain++
		}
		seen = now
		if (quiet >= TicksPerIdle || vain > CommentLimit*TicksPerIdle) && w.silent.CompareAndSwap(false, true) {
			cancel(ErrStalled)
		}
		if !w.over.Load() {
			w.clock.Reset(tick)
		}
	})
	close(begun)
}

// StopWatching ends Watch.
func (a *Answer) StopWatching() {
	if w := &a.watchdog; w.clock != nil {
		w.over.Store(true)
		w.clock.Stop()
	}
}

// await reads the next event.
func (a *Answer) await() (wire.Event, error) {
	w := &a.watchdog
	if w.clock == nil || a.events.Buffered() {
		e, err := a.events.Next()
		if len(e.Data) > 0 {
			w.events++
		}
		return e, err
	}
	w.waits++
	w.expect(true)
	e, err := a.events.Next()
	if len(e.Data) > 0 {
		w.events++
	}
	w.expect(false)
	if err != nil && w.silent.Load() {
		err = ErrStalled
	}
	return e, err
}

// silenceEnds reads what is left of an answer, and cancels the attempt when the backend
// sends nothing for the idle time.
type silenceEnds struct {
	*Answer
	rest io.Reader
}

// Read implements io.Reader.
func (s silenceEnds) Read(p []byte) (int, error) {
	if s.idle == 0 {
		return s.rest.Read(p)
	}
	silent := time.AfterFunc(s.idle, func() { s.cancel(ErrStalled) })
	n, err := s.rest.Read(p)
	if !silent.Stop() && err != nil {
		err = ErrStalled
	}
	return n, err
}
