package attempt

import (
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/backend"
)

// ClientWriter writes to a client, which may read slowly: meanwhile its call does not wait
// for the backend, and does not count as one that does. The connection of a client that
// reads nothing for the idle time is closed: the call holds a slot that others need.
type ClientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	lease    *backend.Lease
	idle     time.Duration // 0 = for ever
	watchdog *idleWatchdog // of its stream, whose ticks tell the time; nil = it is none
	ticks    int64         // when the deadline was set; -1 = never
	since    time.Time     // the same, where there is no watch
}

func NewClientWriter(w http.ResponseWriter, a *Answer) *ClientWriter {
	p := &ClientWriter{ResponseWriter: w, control: http.NewResponseController(w), lease: a.Lease, idle: a.idle, ticks: -1}
	if a.events != nil {
		p.watchdog = &a.watchdog
	}
	return p
}

// For returns a writer to the same client for the answer of another backend, which the
// client waits for now.
func (w *ClientWriter) For(a *Answer) *ClientWriter { return NewClientWriter(w.ResponseWriter, a) }

// setDeadline sees to it that the client has the idle time at least. To set a
// deadline costs as much as a small write, and to look at the clock a part of it: a
// deadline that is a little late does for many writes.
func (w *ClientWriter) setDeadline() {
	if w.idle == 0 {
		return
	}
	if w.watchdog != nil {
		ticks := w.watchdog.ticks.Load()
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

// Finish bounds what net/http writes when its handler has returned: the last few KB.
// It lifts the deadline itself before the connection's next request.
func (w *ClientWriter) Finish() {
	if w.idle > 0 {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.idle)) // as in setDeadline
	}
}

// PieceSize is how much is written under one deadline, in bytes. A client has to take
// each within the idle time, and may take as long as it likes for all of them.
const PieceSize = 64 << 10

func (w *ClientWriter) Write(p []byte) (n int, err error) {
	for len(p)-n > PieceSize {
		m, err := w.write(p[n:n+PieceSize], false)
		if n += m; err != nil {
			return n, err
		}
	}
	m, err := w.write(p[n:], false)
	return n + m, err
}

// Send writes, and flushes what was written so far.
func (w *ClientWriter) Send(p []byte) error {
	if len(p) > PieceSize {
		n, err := w.Write(p[:len(p)-PieceSize])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	_, err := w.write(p, true)
	return err
}

func (w *ClientWriter) write(p []byte, flush bool) (n int, err error) {
	w.setDeadline()
	if w.lease.Pause() {
		defer w.lease.Resume()
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
func (w *ClientWriter) FlushError() error {
	_, err := w.write(nil, true)
	return err
}

// Unwrap is its way to the rest.
func (w *ClientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
