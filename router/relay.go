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

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// endGrace is how long a backend may take to close a stream that has ended.
const endGrace = time.Second

var errEnded = errors.New("the stream has ended")

// relay sends a committed answer to the client, byte for byte. It returns an
// error when the client could not get the whole of it.
func (a *answer) relay(ctx context.Context, w http.ResponseWriter, d wire.Dialect, rec *record) error {
	if a.events == nil && a.rest == nil && len(a.held) <= bufferedByServer { // nothing is sent before the call has ended
		return a.relayWhole(w, rec)
	}
	patient := newPatientWriter(w, a)
	w = patient
	defer patient.finish()
	if a.events == nil {
		return a.relayWhole(w, rec)
	}
	if rec.seen = 1; a.ended {
		rec.conclude()
	}
	a.beginWatch()
	defer a.endWatch()
	w.WriteHeader(a.resp.StatusCode)
	// Events that have come together go out together; a lone one waits for no other.
	burst := a.held
	if !a.events.Buffered() {
		if err := patient.send(burst); err != nil {
			return err
		}
		burst = nil
	}
	a.tell(a.held)
	a.tell(a.unasked.Pending())
	ended := a.ended
	if ended {
		defer a.limitEnd().Stop()
	}
	for {
		e, err := a.awaitEvent()
		switch {
		case err == nil:
		case ended:
			return nil
		case !errors.Is(err, io.EOF):
			return a.breakOff(ctx, w, d, rec, err)
		case a.complete(d, rec.request.Body): // as it came: clients of such servers know the end of a stream by its finish reason
			rec.conclude()
			return a.unasked.Flush(w)
		default:
			// The connection closed as though all were well, but the dialect's
			// own end mark is missing.
			return a.breakOff(ctx, w, d, rec, errors.New("the stream has no end mark"))
		}
		m := d.InspectEvent(e, true)
		if e.Cut && !m.Whole(e) {
			if ended {
				return nil
			}
			return a.breakOff(ctx, w, d, rec, io.ErrUnexpectedEOF)
		}
		a.load.output.Add(int64(len(e.Data)))
		a.reserved.Observe(e.Data)
		rec.usage.Merge(a.sum.Add(e, m.Usage))
		a.finish(m, e)
		if m.Ended && !ended {
			ended = true
			rec.conclude()
			defer a.limitEnd().Stop()
		}
		if m.Failed != "" {
			if err := patient.send(burst); err != nil {
				return err
			}
			if ended { // of something else than the stream, which is whole
				return nil
			}
			rec.detail = rec.backend + " ended its stream with an error"
			if err := a.unasked.Flush(w); err != nil {
				return err
			}
			if err := a.goOn(ctx, w); !errors.Is(err, errNoResume) {
				return a.resumed(w, d, rec, err)
			}
			return a.passError(w, rec, e)
		}
		if a.resume != nil {
			a.resume.story.Observe(e.Data)
		}
		if e.LikelyContent() {
			rec.seen++
		}
		out := a.unasked.Pass(e)
		if more := a.events.Buffered(); more || len(burst) > 0 {
			burst = append(burst, out...)
			if more && len(burst) < pieceSize {
				continue
			}
			out, burst = burst, burst[:0]
		}
		if err := patient.send(out); err != nil {
			return err
		}
	}
}

// finish notes which choices an event ends, and which have more text after their end.
func (a *answer) finish(m wire.EventInfo, e wire.Event) {
	if a.finished |= m.Finished; a.finished != m.Finished {
		a.finished &^= wire.Reopened(e.Data)
	}
}

// complete says whether a stream that ended cleanly, and without an end mark, is
// complete all the same.
func (a *answer) complete(d wire.Dialect, b request.Body) bool {
	of, ok := d.(wire.Choices)
	return ok && of.AllFinished(b.Raw, a.finished)
}

// bufferedByServer is how much of an answer net/http keeps until its handler has
// returned, in bytes (bufferBeforeChunkingSize).
const bufferedByServer = 2048

// passError sends the backend's own error event. The stream that it ends is not
// complete, and must not look so to a client that does not know the event: what
// comes after it, an end mark included, is not sent, and the connection is aborted.
func (a *answer) passError(w http.ResponseWriter, rec *record, e wire.Event) error {
	a.place.release(withError)
	_, err := io.WriteString(w, a.redact(string(e.Raw)))
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errCut, rec.detail)
}

// limitEnd gives the backend endGrace to close a stream that is whole: its
// connection is worth having back, but not worth waiting for.
func (a *answer) limitEnd() *time.Timer {
	return time.AfterFunc(endGrace, func() { a.cancel(errEnded) })
}

// breakOff ends a stream that broke with an error event. What was read of a
// half event is not sent: it would spoil the error event.
func (a *answer) breakOff(ctx context.Context, w http.ResponseWriter, d wire.Dialect, rec *record, cause error) error {
	if err := a.unasked.Flush(w); err != nil {
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
func (a *answer) resumed(w http.ResponseWriter, d wire.Dialect, rec *record, err error) error {
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
	for events := wire.NewEventReader(bytes.NewReader(held)); ; {
		e, err := events.Next()
		if err != nil {
			return
		}
		a.resume.story.Observe(e.Data)
	}
}

// sayBroken writes the dialect's error event.
func (a *answer) sayBroken(w http.ResponseWriter, d wire.Dialect, rec *record, cause error) error {
	_, err := w.Write(d.ErrorEvent(wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: string(Lost),
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
	end, err := copyBut(w, silenceEnds{a}, tailSize)
	if err != nil {
		return fmt.Errorf("%w: %s", errCut, rootCause(err))
	}
	rec.usage.Merge(wire.OpenAIUsage.In(usageAtEnd(end)))
	rec.conclude()
	_, err = w.Write(end)
	return err
}

// silenceEnds reads what is left of an answer, and gives its backend up when it sends
// nothing for the idle time.
type silenceEnds struct{ *answer }

func (s silenceEnds) Read(p []byte) (int, error) {
	if s.idle == 0 {
		return s.rest.Read(p)
	}
	silent := time.AfterFunc(s.idle, func() { s.cancel(errStalled) })
	n, err := s.rest.Read(p)
	if !silent.Stop() && err != nil {
		err = errStalled
	}
	return n, err
}

// tailSize is how much of the end of a large answer is kept back until it is in
// the books, in bytes. Its usage stands there.
const tailSize = 64 << 10

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
