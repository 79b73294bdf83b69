package attempt

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// idleWatchdog cancels an attempt whose stream sends nothing, or only comments, for too
// long. The time in which the client does not read does not count.
//
// It checks the stream a few times per idle time: reading the clock and setting a timer
// for each event would cost more than the rest of the event's processing.
type idleWatchdog struct {
	timer   *time.Timer
	ticks   atomic.Int64  // since Watch
	state   atomic.Uint64 // of the stream: see expect
	stalled atomic.Bool   // the stream was idle for too long
	stopped atomic.Bool

	events, waits uint32 // events without the comments, and waits for one; used by the stream's reader only
}

const (
	// TicksPerIdle is how often the stream is checked per idle time.
	TicksPerIdle = 8
	// CommentLimit is for how many idle times a backend may send nothing but comments
	// once an answer has begun.
	CommentLimit = 10
)

// expect records whether the reader waits for the stream's next event.
func (w *idleWatchdog) expect(waiting bool) {
	state := uint64(w.events)<<32 | uint64(w.waits&(1<<31-1))<<1
	if waiting {
		state |= 1
	}
	w.state.Store(state)
}

// Watch watches the stream from now on, if it has an idle timeout.
func (a *Answer) Watch() {
	w := &a.watchdog
	if a.idle == 0 || w.timer != nil {
		return
	}
	var seen uint64
	var idleTicks, commentTicks int // ticks of the present wait, and of all waits since the last event
	cancel, tick := a.cancel, max(a.idle/TicksPerIdle, time.Millisecond)
	started := make(chan struct{}) // closed once w.clock is set
	w.timer = time.AfterFunc(tick, func() {
		<-started
		w.ticks.Add(1)
		now := w.state.Load()
		if now>>32 != seen>>32 {
			commentTicks = 0
		}
		if idleTicks++; now != seen {
			idleTicks = 0
		}
		if now&1 == 0 {
			idleTicks = 0
		} else {
			commentTicks++
		}
		seen = now
		if (idleTicks >= TicksPerIdle || commentTicks > CommentLimit*TicksPerIdle) && w.stalled.CompareAndSwap(false, true) {
			cancel(ErrStalled)
		}
		if !w.stopped.Load() {
			w.timer.Reset(tick)
		}
	})
	close(started)
}

// StopWatching ends Watch.
func (a *Answer) StopWatching() {
	if w := &a.watchdog; w.timer != nil {
		w.stopped.Store(true)
		w.timer.Stop()
	}
}

// await reads the next event.
func (a *Answer) await() (wire.Event, error) {
	w := &a.watchdog
	if w.timer == nil || a.events.Buffered() {
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
	if err != nil && w.stalled.Load() {
		err = ErrStalled
	}
	return e, err
}

// restReader reads the rest of an answer, and cancels the attempt when the backend sends
// nothing for the idle time.
type restReader struct {
	*Answer
	rest io.Reader
}

// Read implements io.Reader.
func (s restReader) Read(p []byte) (n int, err error) {
	if s.idle == 0 {
		n, err = s.rest.Read(p)
	} else {
		timer := time.AfterFunc(s.idle, func() { s.cancel(ErrStalled) })
		n, err = s.rest.Read(p)
		if !timer.Stop() && err != nil {
			err = ErrStalled
		}
	}
	s.Lease.Received(n)
	if errors.Is(err, io.EOF) && s.isCutOff() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
