package router

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// bufferedByServer is how much of an answer net/http keeps until its handler has
// returned, in bytes (bufferBeforeChunkingSize).
const bufferedByServer = 2048

// relay sends a committed answer to the client, byte for byte. It returns an error if the
// client did not receive the whole answer. next continues a stream that breaks; nil = it
// cannot be continued.
func (x *exchange) relay(a *attempt.Answer, next *resumption) error {
	if !a.IsStream() && a.Rest == nil && len(a.Held) <= bufferedByServer { // nothing is sent before the call has ended
		return x.relayWhole(x.w, a)
	}
	w := attempt.NewClientWriter(x.w, a, &x.rec.Call.Bytes)
	defer w.Finish()
	_, progressive := x.request.Dialect.(wire.Progressive)
	switch {
	case a.IsStream():
		return (&streamRelay{exchange: x, answer: a, client: w, resumption: next}).run()
	case progressive && a.Rest != nil && !a.IsJSON():
		return x.relayFile(w, a)
	}
	return x.relayWhole(w, a)
}

// streamRelay sends a stream to the client.
type streamRelay struct {
	*exchange

	answer     *attempt.Answer
	client     *attempt.ClientWriter
	resumption *resumption // nil = the stream cannot be continued
	batch      []byte      // events that arrived together and are sent together
	ended      bool        // the stream's end mark was received
	stop       func() bool // stops the timer within which the backend must close the stream
}

func (s *streamRelay) run() error {
	a := s.answer
	s.stop = func() bool { return true }
	defer func() { s.stop() }()
	a.Watch()
	defer a.StopWatching()
	s.rec.Call.Events.Store(1)
	if a.Ended {
		s.markEnded()
	}
	if err := s.sendHeld(); err != nil {
		return err
	}
	for {
		e, m, err := a.Next(s.request.Dialect)
		if err != nil {
			return s.finishStream(err)
		}
		s.rec.Usage.Merge(m.Usage)
		if m.Ended && !s.ended {
			s.markEnded()
		}
		if m.Failed != "" {
			return s.handleErrorEvent(e)
		}
		s.resumption.observe(e.Data)
		if e.LikelyContent() {
			s.rec.Call.Events.Add(1)
		}
		if err := s.forward(a.ForClient(e)); err != nil {
			return err
		}
	}
}

// markEnded records that the stream is complete.
func (s *streamRelay) markEnded() {
	s.ended = true
	s.rec.RecordComplete()
	s.stop = s.answer.CancelAfterGrace().Stop
}

// sendHeld sends the events that were held until commit.
func (s *streamRelay) sendHeld() error {
	a := s.answer
	s.client.WriteHeader(a.Status())
	if s.resumption != nil {
		s.resumption.observeAll(a.HeldEvents())
	}
	if a.Buffered() {
		s.batch = a.Held
		return nil
	}
	return s.client.Send(a.Held)
}

// forward sends an event. Events that arrived together are sent together; a single event is
// sent at once.
func (s *streamRelay) forward(out []byte) error {
	if more := s.answer.Buffered(); more || len(s.batch) > 0 {
		s.batch = append(s.batch, out...)
		if more && len(s.batch) < attempt.PieceSize {
			return nil
		}
		out, s.batch = s.batch, s.batch[:0]
	}
	return s.client.Send(out)
}

// finishStream ends a stream after its last event. A stream without an end mark is complete
// if every choice has its finish reason.
func (s *streamRelay) finishStream(err error) error {
	switch {
	case s.ended:
		return nil
	case !errors.Is(err, io.EOF):
		return s.abortStream(err)
	case s.answer.Complete():
		s.rec.RecordComplete()
		return s.answer.UsageFilter.Flush(s.client)
	default:
		return s.abortStream(errors.New("the stream has no end mark"))
	}
}

// handleErrorEvent handles the backend's own error event.
func (s *streamRelay) handleErrorEvent(e wire.Event) error {
	if err := s.client.Send(s.batch); err != nil {
		return err
	}
	if s.ended { // the stream was already complete
		return nil
	}
	what := s.rec.Backend + " ended its stream with an error"
	s.rec.AddDetail(what)
	if err := s.answer.UsageFilter.Flush(s.client); err != nil {
		return err
	}
	if err := s.continueElsewhere(); !errors.Is(err, errNoResume) {
		return s.endContinued(err)
	}
	return s.forwardError(e, what)
}

// forwardError sends the backend's own error event. The stream is not complete, and must not
// look complete to a client that ignores the event: nothing after the event is sent, not
// even an end mark, and the connection is aborted.
func (s *streamRelay) forwardError(e wire.Event, what string) error {
	s.answer.Lease.Release(backend.Errored)
	if err := s.client.Send([]byte(s.answer.Redact(string(s.answer.ForClient(e))))); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errTruncated, what)
}

// abortStream ends a broken stream with an error event, if no other backend continues it. An
// incomplete event is not sent: it would corrupt the error event.
func (s *streamRelay) abortStream(cause error) error {
	if err := s.answer.UsageFilter.Flush(s.client); err != nil {
		return err
	}
	if s.isCancelled() {
		return s.writeStreamError(cause)
	}
	if err := s.continueElsewhere(); !errors.Is(err, errNoResume) {
		s.rec.AddDetail(s.rec.Backend + " lost the connection in the middle of the answer: " + wire.RootCause(cause))
		return s.endContinued(err)
	}
	return s.writeStreamError(cause)
}

// continueElsewhere makes another backend continue the stream. The lease at the first backend is
// released before that, so that other calls can use its slot.
func (s *streamRelay) continueElsewhere() error {
	if s.resumption == nil {
		return errNoResume
	}
	s.answer.Abandon()
	return s.resumption.resume(s.client)
}

// endContinued ends a stream that was continued. If the continuation broke, the client receives
// the same error event as for the first part.
func (s *streamRelay) endContinued(err error) error {
	if errors.Is(err, errTruncated) {
		return s.writeStreamError(err)
	}
	return err
}

// writeStreamError writes the dialect's error event.
func (s *streamRelay) writeStreamError(cause error) error {
	e := wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: string(backend.Lost),
		Message: fmt.Sprintf("%s: connection lost in the middle of the answer: %s", s.rec.Backend, wire.RootCause(cause)),
	}
	if s.isCancelled() {
		e = cancelledError
	}
	event := s.request.Dialect.ErrorEvent(e)
	if err := s.client.Send(s.answer.ErrorForClient(event)); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", errTruncated, wire.RootCause(cause))
}

// relayFile sends an answer that is a file, such as speech, each part as soon as it arrives.
func (x *exchange) relayFile(w *attempt.ClientWriter, a *attempt.Answer) error {
	left := a.Length() // bytes; below 0 = unknown
	if left >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	}
	w.WriteHeader(a.Status())
	part, buffer, end := a.Held, make([]byte, filePiece), error(nil)
	for {
		if left -= int64(len(part)); left == 0 || errors.Is(end, io.EOF) {
			x.rec.RecordComplete()
		}
		if err := w.Send(part); err != nil {
			return err
		}
		switch {
		case errors.Is(end, io.EOF):
			return nil
		case end != nil:
			return fmt.Errorf("%w: %s", errTruncated, wire.RootCause(end))
		}
		var n int
		n, end = a.Rest.Read(buffer)
		part = buffer[:n]
	}
}

// filePiece is how much of a file is sent at once, in bytes.
const filePiece = 32 << 10

// relayWhole sends a non-streaming answer.
func (x *exchange) relayWhole(w http.ResponseWriter, a *attempt.Answer) error {
	if a.Rest == nil {
		x.rec.RecordComplete()
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
	end, err := attempt.CopyExceptTail(w, a.Rest)
	if err != nil {
		return fmt.Errorf("%w: %s", errTruncated, wire.RootCause(err))
	}
	x.rec.Usage.Merge(wire.AnyUsage(attempt.UsageInParts(a.Held, end)))
	x.rec.RecordComplete()
	_, err = w.Write(end)
	return err
}
