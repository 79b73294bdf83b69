package router

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// bufferedByServer is how much of an answer net/http keeps until its handler has
// returned, in bytes (bufferBeforeChunkingSize).
const bufferedByServer = 2048

// relay sends a committed answer to the client, byte for byte. It returns an error if the
// client could not get the whole of it. next continues a stream that breaks; nil = it
// can't be continued.
func (x *exchange) relay(a *attempt.Answer, next *resumption) error {
	if !a.IsStream() && a.Rest == nil && len(a.Held) <= bufferedByServer { // nothing is sent before the call has ended
		return x.relayWhole(x.w, a)
	}
	w := attempt.NewClientWriter(x.w, a)
	defer w.Finish()
	if !a.IsStream() {
		return x.relayWhole(w, a)
	}
	s := &streamRelay{exchange: x, answer: a, client: w, next: next}
	return s.run()
}

// streamRelay sends a stream to the client.
type streamRelay struct {
	*exchange

	answer *attempt.Answer
	client *attempt.ClientWriter
	next   *resumption // nil = the stream can't be continued
	burst  []byte      // events that have come together and go out together
	ended  bool        // the stream's end mark has come
	stop   func() bool // ends the time in which the backend has to close the stream
}

func (s *streamRelay) run() error {
	a := s.answer
	s.stop = func() bool { return true }
	defer func() { s.stop() }()
	a.Watch()
	defer a.StopWatching()
	s.rec.seen = 1
	if a.Ended {
		s.end()
	}
	if err := s.begin(); err != nil {
		return err
	}
	for {
		e, m, err := a.Next(s.request.Dialect)
		if err != nil {
			return s.stopped(err)
		}
		s.rec.usage.Merge(m.Usage)
		if m.Ended && !s.ended {
			s.end()
		}
		if m.Failed != "" {
			return s.failedEvent(e)
		}
		s.next.observe(e.Data)
		if e.LikelyContent() {
			s.rec.seen++
		}
		if err := s.pass(a.Unasked.Pass(e)); err != nil {
			return err
		}
	}
}

// end notes that the stream is complete.
func (s *streamRelay) end() {
	s.ended = true
	s.rec.conclude()
	s.stop = s.answer.LimitEnd().Stop
}

// begin sends what was held.
func (s *streamRelay) begin() error {
	a := s.answer
	s.client.WriteHeader(a.Status())
	if s.next != nil {
		s.next.observeAll(a.HeldEvents())
	}
	if a.Buffered() {
		s.burst = a.Held
		return nil
	}
	return s.client.Send(a.Held)
}

// pass sends an event. Events that have come together go out together; a lone one waits
// for no other.
func (s *streamRelay) pass(out []byte) error {
	if more := s.answer.Buffered(); more || len(s.burst) > 0 {
		s.burst = append(s.burst, out...)
		if more && len(s.burst) < attempt.PieceSize {
			return nil
		}
		out, s.burst = s.burst, s.burst[:0]
	}
	return s.client.Send(out)
}

// Stopped is called when no event comes any more. Clients of servers without an end mark
// know the end of a stream by its finish reason.
func (s *streamRelay) stopped(err error) error {
	switch {
	case s.ended:
		return nil
	case !errors.Is(err, io.EOF):
		return s.breakOff(err)
	case s.answer.Complete(s.request):
		s.rec.conclude()
		return s.answer.Unasked.Flush(s.client)
	default:
		return s.breakOff(errors.New("the stream has no end mark"))
	}
}

// failedEvent is called for the backend's own error event.
func (s *streamRelay) failedEvent(e wire.Event) error {
	if err := s.client.Send(s.burst); err != nil {
		return err
	}
	if s.ended { // the error is not that of the stream, which is complete
		return nil
	}
	s.rec.detail = s.rec.backend + " ended its stream with an error"
	if err := s.answer.Unasked.Flush(s.client); err != nil {
		return err
	}
	if err := s.resume(); !errors.Is(err, errNoResume) {
		return s.resumed(err)
	}
	return s.passError(e)
}

// passError sends the backend's own error event. The stream that it ends is not complete,
// and must not look so to a client that does not know the event: what comes after it, an
// end mark included, is not sent, and the connection is aborted.
func (s *streamRelay) passError(e wire.Event) error {
	s.answer.Lease.Release(backend.WithError)
	if err := s.client.Send([]byte(s.answer.Redact(string(e.Raw)))); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errTruncated, s.rec.detail)
}

// breakOff ends a stream that broke with an error event, if no other backend continues
// it. What was read of a half event is not sent: it would spoil the error event.
func (s *streamRelay) breakOff(cause error) error {
	if err := s.answer.Unasked.Flush(s.client); err != nil {
		return err
	}
	if err := s.resume(); !errors.Is(err, errNoResume) {
		return s.resumed(err)
	}
	return s.writeBroken(cause)
}

// resume has another backend continue the stream. The backend that broke it is released
// first: its slot is another call's.
func (s *streamRelay) resume() error {
	if s.next == nil {
		return errNoResume
	}
	s.answer.Abandon()
	return s.next.resume(s.client)
}

// resumed is the end of a stream that was continued. If the continuation broke, the
// client is told as it would be of the first part.
func (s *streamRelay) resumed(err error) error {
	if errors.Is(err, errTruncated) {
		return s.writeBroken(err)
	}
	return err
}

// writeBroken writes the dialect's error event.
func (s *streamRelay) writeBroken(cause error) error {
	err := s.client.Send(s.request.Dialect.ErrorEvent(wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: string(backend.Lost),
		Message: fmt.Sprintf("%s broke its answer off: %s", s.rec.backend, wire.RootCause(cause)),
	}))
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errTruncated, wire.RootCause(cause))
}

// relayWhole sends an answer that is no stream.
func (x *exchange) relayWhole(w http.ResponseWriter, a *attempt.Answer) error {
	if a.Rest == nil {
		x.rec.conclude()
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Held)))
	} else if a.Length() >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(a.Length(), 10))
	}
	w.WriteHeader(a.Status())
	if _, err := w.Write(a.Held); err != nil {
		return err
	}
	if a.Rest == nil {
		return nil
	}
	end, err := copyBut(w, a.Rest, tailSize)
	if err != nil {
		return fmt.Errorf("%w: %s", errTruncated, wire.RootCause(err))
	}
	x.rec.usage.Merge(wire.OpenAIUsage.In(usageAtEnd(end)))
	x.rec.conclude()
	_, err = w.Write(end)
	return err
}

// tailSize is how much of the end of a large answer is sent only after the call is
// recorded, in bytes. Its usage stands there.
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
