package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"
)

// endGrace is how long a backend may take to close a stream that has ended.
const endGrace = time.Second

var errEnded = errors.New("the stream has ended")

// relay sends a committed answer to the client, byte for byte. It returns an
// error when the client could not get the whole of it.
func (a *answer) relay(ctx context.Context, w http.ResponseWriter, d dialect, rec *record) error {
	w = &patientWriter{ResponseWriter: w, place: a.place, idle: a.idle}
	// A deadline would go on to the connection's next request.
	defer func() { _ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) }() // where there is none, none was set
	if a.events == nil {
		return a.relayWhole(w, rec)
	}
	if rec.seen = 1; a.ended {
		rec.conclude()
	}
	w.WriteHeader(a.resp.StatusCode)
	if _, err := w.Write(a.held); err != nil {
		return err
	}
	a.tell(a.held)
	a.tell(a.unasked.pending())
	flush := http.NewResponseController(w).Flush
	ended := a.ended
	if ended {
		defer a.limitEnd().Stop()
	}
	for {
		// Flushed when there is nothing more to send at the moment, so that a
		// burst of events is one packet and a lone one waits for nobody.
		if !a.events.buffered() {
			if err := flush(); err != nil {
				return err
			}
		}
		e, err := a.awaitEvent()
		switch {
		case err == nil:
		case ended:
			return nil
		case !errors.Is(err, io.EOF):
			return a.breakOff(ctx, w, d, rec, err)
		default:
			// The connection closed as though all were well, but the dialect's
			// own end mark is missing.
			return a.breakOff(ctx, w, d, rec, errors.New("the stream has no end mark"))
		}
		m := d.read(e, true)
		if e.cut && !m.whole(e) {
			if ended {
				return nil
			}
			return a.breakOff(ctx, w, d, rec, io.ErrUnexpectedEOF)
		}
		a.load.output.Add(int64(len(e.data)))
		rec.usage.merge(a.sum.add(e, m.usage))
		if m.ended && !ended {
			ended = true
			rec.conclude()
			defer a.limitEnd().Stop()
		}
		if m.failed != "" && ended { // of something else than the stream, which is whole
			return nil
		}
		if m.failed != "" {
			rec.detail = rec.backend + " ended its stream with an error"
			if err := a.unasked.flush(w); err != nil {
				return err
			}
			if err := a.goOn(ctx, w); !errors.Is(err, errNoResume) {
				return a.resumed(w, d, rec, err)
			}
			return a.passError(w, rec, e)
		}
		if a.resume != nil {
			a.resume.story.hear(e.data)
		}
		if e.carries() {
			rec.seen++
		}
		if _, err := w.Write(a.unasked.pass(e)); err != nil {
			return err
		}
	}
}

// commentsFor is how long a backend may send comments alone once an answer has
// begun, in idle times: it thinks, but not for ever.
const commentsFor = 10

// awaitEvent reads the next event, and gives a backend up that is silent, or that
// has nothing but comments for too long. The time in which the client does not
// read is not the backend's.
func (a *answer) awaitEvent() (event, error) {
	if a.idle == 0 || a.events.buffered() {
		e, err := a.events.next()
		if len(e.data) > 0 {
			a.vain = 0
		}
		return e, err
	}
	wait := min(a.idle, commentsFor*a.idle-a.vain)
	if a.silence == nil {
		a.silence = time.AfterFunc(wait, func() {
			a.silent.Store(true)
			a.cancel(errStalled)
		})
	} else {
		a.silence.Reset(wait)
	}
	began := time.Now()
	e, err := a.events.next()
	a.silence.Stop()
	if a.vain += time.Since(began); len(e.data) > 0 {
		a.vain = 0
	}
	if err != nil && a.silent.Load() {
		err = errStalled
	}
	return e, err
}

// passError sends the backend's own error event. It is the end of a stream that is
// not whole: an end mark that comes after it is not passed on.
func (a *answer) passError(w http.ResponseWriter, rec *record, e event) error {
	_, err := io.WriteString(w, a.redact(string(e.raw)))
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	rec.cut = fmt.Errorf("%w: %s", errCut, rec.detail)
	return err
}

// limitEnd gives the backend endGrace to close a stream that is whole: its
// connection is worth having back, but not worth waiting for.
func (a *answer) limitEnd() *time.Timer {
	return time.AfterFunc(endGrace, func() { a.cancel(errEnded) })
}

// breakOff ends a stream that broke with an error event. What was read of a
// half event is not sent: it would spoil the error event.
func (a *answer) breakOff(ctx context.Context, w http.ResponseWriter, d dialect, rec *record, cause error) error {
	if err := a.unasked.flush(w); err != nil {
		return err
	}
	if err := a.goOn(ctx, w); !errors.Is(err, errNoResume) {
		return a.resumed(w, d, rec, err)
	}
	return a.sayBroken(w, d, rec, cause)
}

// goOn has somebody else go on with the stream. The backend that broke it is let
// go first: its place is another call's.
func (a *answer) goOn(ctx context.Context, w http.ResponseWriter) error {
	if a.resume == nil {
		return errNoResume
	}
	a.place.release(brokenOff)
	a.cancel(errEnded) // it may still be at work
	return a.resume.resume(ctx, w)
}

// resumed is the end of a stream that was continued: a continuation that broke
// is said to have, as the first part would be.
func (a *answer) resumed(w http.ResponseWriter, d dialect, rec *record, err error) error {
	if errors.Is(err, errCut) {
		return a.sayBroken(w, d, rec, err)
	}
	return err
}

// tell has the story hear what was sent of the stream at once.
func (a *answer) tell(held []byte) {
	if a.resume == nil {
		return
	}
	for events := newEventReader(bytes.NewReader(held)); ; {
		e, err := events.next()
		if err != nil {
			return
		}
		a.resume.story.hear(e.data)
	}
}

// sayBroken writes the dialect's error event.
func (a *answer) sayBroken(w http.ResponseWriter, d dialect, rec *record, cause error) error {
	_, err := w.Write(d.errorEvent(apiError{
		Status: http.StatusBadGateway, Type: typeServer, Code: string(Lost),
		Message: fmt.Sprintf("%s broke its answer off: %s", rec.backend, rootCause(cause)),
	}))
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errCut, rootCause(cause))
}

func (a *answer) relayWhole(w http.ResponseWriter, rec *record) error {
	if a.rest == nil {
		rec.conclude()
		w.Header().Set("Content-Length", strconv.Itoa(len(a.held)))
	} else if a.resp.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(a.resp.ContentLength, 10))
	}
	w.WriteHeader(a.resp.StatusCode)
	if _, err := w.Write(a.held); err != nil {
		return err
	}
	if a.rest == nil {
		return nil
	}
	end, err := copyBut(w, a.rest, lastPiece)
	if err != nil {
		return fmt.Errorf("%w: %s", errCut, rootCause(err))
	}
	rec.usage.merge(openAIUsage.in(usageAtEnd(end)))
	rec.conclude()
	_, err = w.Write(end)
	return err
}

// lastPiece is how much of the end of a large answer is kept back until it is in
// the books, in bytes. Its usage stands there.
const lastPiece = 64 << 10

// copyBut copies all but the last bytes, which it returns.
func copyBut(w io.Writer, r io.Reader, last int) (end []byte, err error) {
	piece := make([]byte, 4*last)
	for {
		n, err := r.Read(piece[len(end):])
		end = piece[:len(end)+n]
		if more := len(end) - last; more > 0 {
			if _, err := w.Write(end[:more]); err != nil {
				return nil, err
			}
			end = piece[:copy(piece, end[more:])]
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// usageAtEnd finds the usage in the last piece of a JSON text.
func usageAtEnd(end []byte) gjson.Result {
	at := bytes.LastIndex(end, []byte(`"usage":`))
	if at < 0 {
		return gjson.Result{}
	}
	return gjson.GetBytes(append([]byte(`{`), end[at:]...), "usage")
}

// patientWriter writes to a client, which may take its time to read: meanwhile
// its call does not wait for the backend, and must not be held against it. One
// that reads nothing for too long is let go: it keeps a place from others.
type patientWriter struct {
	http.ResponseWriter
	place *place
	idle  time.Duration // 0 = for ever
	since time.Time     // when the deadline was set
}

func (w *patientWriter) begin() (end func()) {
	// To set a deadline costs as much as a small write: one that is a little late
	// does for many, and leaves each at least the idle time.
	if now := time.Now(); w.idle > 0 && now.Sub(w.since) >= w.idle/4 {
		w.since = now
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.idle + w.idle/4)) // not every writer has one
	}
	return w.place.pause()
}

// pieceSize is how much is written under one deadline, in bytes. A client has to take
// each within the idle time, and may take as long as it likes for all of them.
const pieceSize = 64 << 10

func (w *patientWriter) Write(p []byte) (n int, err error) {
	for len(p)-n > pieceSize {
		m, err := w.write(p[n : n+pieceSize])
		if n += m; err != nil {
			return n, err
		}
	}
	m, err := w.write(p[n:])
	return n + m, err
}

func (w *patientWriter) write(p []byte) (int, error) {
	defer w.begin()()
	return w.ResponseWriter.Write(p)
}

// FlushError is http.ResponseController's way to Flush.
func (w *patientWriter) FlushError() error {
	defer w.begin()()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is its way to the rest.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
