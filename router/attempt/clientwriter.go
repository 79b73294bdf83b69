package attempt

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/backend"
)

// ClientWriter writes to a client that may read slowly. During a write its call does not
// count as waiting for the backend. If the client reads nothing for the idle time, its
// connection is closed: the call occupies a slot that other calls need.
type ClientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	lease    *backend.Lease
	sent     *atomic.Int64 // counts the bytes; nil = they are not counted
	idle     time.Duration // 0 = no limit
	watchdog *idleWatchdog // of the stream, whose ticks replace the clock; nil = not a stream
	ticks    int64         // the watchdog's ticks when the deadline was set; -1 = never
	since    time.Time     // when the deadline was set
}

// NewClientWriter returns a writer for an answer of a backend. sent counts the bytes; nil = they
// are not counted.
func NewClientWriter(w http.ResponseWriter, a *Answer, sent *atomic.Int64) *ClientWriter {
	p := &ClientWriter{ResponseWriter: w, control: http.NewResponseController(w), lease: a.Lease, sent: sent, idle: a.idle, ticks: -1}
	if a.events != nil {
		p.watchdog = &a.watchdog
	}
	return p
}

// For returns a writer to the same client for the answer of another backend.
func (w *ClientWriter) For(a *Answer) *ClientWriter {
	return NewClientWriter(w.ResponseWriter, a, w.sent)
}

// setDeadline gives the client at least the idle time for the next write. Setting a
// deadline costs as much as a small write, and reading the clock a part of that. So one
// deadline, a little later than needed, serves many writes.
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
	_ = w.control.SetWriteDeadline(w.since.Add(w.idle + w.idle/4)) // not every writer supports deadlines
}

// Finish sets a deadline for the last few KB, which net/http writes after its handler has
// returned. net/http clears the deadline before the connection's next request.
func (w *ClientWriter) Finish() {
	if w.idle > 0 {
		_ = w.control.SetWriteDeadline(time.Now().Add(w.idle)) // as in setDeadline
	}
}

// PieceSize is how much is written under one deadline, in bytes. A client must read each
// piece within the idle time; the whole answer may take any time.
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

// Send writes p, and flushes everything that was written so far.
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
		if w.sent != nil {
			w.sent.Add(int64(n))
		}
	}
	if err == nil && flush {
		err = w.control.Flush()
	}
	return n, err
}

// FlushError implements Flush for http.ResponseController.
func (w *ClientWriter) FlushError() error {
	_, err := w.write(nil, true)
	return err
}

// Unwrap implements the other methods of http.ResponseController.
func (w *ClientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
