package router

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// watch gives a backend up whose stream is silent, or has nothing but comments for
// too long. The time in which the client does not read is not the backend's.
//
// It looks at the stream a few times in an idle time. To look at the clock, and to set
// a timer, for each event would cost more than all else that is done for it.
type watch struct {
	clock  *time.Timer
	ticks  atomic.Int64  // since it began
	state  atomic.Uint64 // of the stream: see waitsFor
	silent atomic.Bool   // it was, for too long
	over   atomic.Bool

	heard, waits uint32 // events that are no comments, and waits for one; the stream's reader's
}

const (
	// ticksPerIdle is how often it looks in an idle time.
	ticksPerIdle = 8
	// commentsFor is how long a backend may send comments alone once an answer has
	// begun, in idle times: it thinks, but not for ever.
	commentsFor = 10
)

// waitsFor writes down whether the stream's next event is waited for.
func (w *watch) waitsFor(waiting bool) {
	state := uint64(w.heard)<<32 | uint64(w.waits&(1<<31-1))<<1
	if waiting {
		state |= 1
	}
	w.state.Store(state)
}

// beginWatch looks after the stream from now on, if it may not be silent for ever.
func (a *answer) beginWatch() {
	w := &a.watch
	if a.idle == 0 || w.clock != nil {
		return
	}
	var seen uint64
	var quiet, vain int // ticks: of the same wait, and of all since something was heard
	cancel, tick := a.cancel, max(a.idle/ticksPerIdle, time.Millisecond)
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
		if (quiet >= ticksPerIdle || vain > commentsFor*ticksPerIdle) && w.silent.CompareAndSwap(false, true) {
			cancel(errStalled)
		}
		if !w.over.Load() {
			w.clock.Reset(tick)
		}
	})
	close(begun)
}

func (a *answer) endWatch() {
	if w := &a.watch; w.clock != nil {
		w.over.Store(true)
		w.clock.Stop()
	}
}

// awaitEvent reads the next event.
func (a *answer) awaitEvent() (wire.Event, error) {
	w := &a.watch
	if w.clock == nil || a.events.Buffered() {
		e, err := a.events.Next()
		if len(e.Data) > 0 {
			w.heard++
		}
		return e, err
	}
	w.waits++
	w.waitsFor(true)
	e, err := a.events.Next()
	if len(e.Data) > 0 {
		w.heard++
	}
	w.waitsFor(false)
	if err != nil && w.silent.Load() {
		err = errStalled
	}
	return e, err
}

// patientWriter writes to a client, which may take its time to read: meanwhile
// its call does not wait for the backend, and must not be held against it. One
// that reads nothing for too long is let go: it keeps a place from others.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	place   *place
	idle    time.Duration // 0 = for ever
	watch   *watch        // of its stream, whose ticks tell the time; nil = it is none
	ticks   int64         // when the deadline was set; -1 = never
	since   time.Time     // the same, where there is no watch
}

func newPatientWriter(w http.ResponseWriter, a *answer) *patientWriter {
	p := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), place: a.place, idle: a.idle, ticks: -1}
	if a.events != nil {
		p.watch = &a.watch
	}
	return p
}

// setDeadline sees to it that the client has the idle time at least. To set a
// deadline costs as much as a small write, and to look at the clock a part of it: a
// deadline that is a little late does for many writes.
func (w *patientWriter) setDeadline() {
	if w.idle == 0 {
		return
	}
	if w.watch != nil {
		ticks := w.watch.ticks.Load()
		if ticks == w.ticks {
			return
		}
		w.ticks = ticks
	} else if time.Since(w.since) < w.idle/4 {
		return
	}
	w.since = time.Now()
	_ = w.control.SetWriteDeadline(w.since.Add(w.idle + w.idle/4)) // not every writer has one
}

// finish bounds what net/http writes when its handler has returned: the last few KB.
// It lifts the deadline itself before the connection's next request.
func (w *patientWriter) finish() {
	if w.idle > 0 {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.idle)) // as in setDeadline
	}
}

// pieceSize is how much is written under one deadline, in bytes. A client has to take
// each within the idle time, and may take as long as it likes for all of them.
const pieceSize = 64 << 10

func (w *patientWriter) Write(p []byte) (n int, err error) {
	for len(p)-n > pieceSize {
		m, err := w.write(p[n:n+pieceSize], false)
		if n += m; err != nil {
			return n, err
		}
	}
	m, err := w.write(p[n:], false)
	return n + m, err
}

// send writes, and flushes what was written so far.
func (w *patientWriter) send(p []byte) error {
	if len(p) > pieceSize {
		n, err := w.Write(p[:len(p)-pieceSize])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	_, err := w.write(p, true)
	return err
}

func (w *patientWriter) write(p []byte, flush bool) (n int, err error) {
	w.setDeadline()
	if w.place.pause() {
		defer w.place.resume()
	}
	if len(p) > 0 {
		n, err = w.ResponseWriter.Write(p)
	}
	if err == nil && flush {
		err = w.control.Flush()
	}
	return n, err
}

// FlushError is http.ResponseController's way to Flush.
func (w *patientWriter) FlushError() error {
	_, err := w.write(nil, true)
	return err
}

// Unwrap is its way to the rest.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
