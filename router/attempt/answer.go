package attempt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/responses"
	"github.com/llmsup/llmsup/router/wire"
)

// Answer is what the router commits to: nothing of it has been sent to the client yet, and
// everything that was read of it is held. It is a stream (Next), or a whole answer (Held,
// and Rest if it is too large to be held).
type Answer struct {
	Usage            wire.Usage              // reported so far
	First            time.Time               // when the answer began
	Held             []byte                  // what was read: a stream's events up to the first answer, or a body
	Rest             io.Reader               // the rest of a body that is too large to be held; nil = nothing
	Ended            bool                    // the stream's end mark was read
	CompletedAtLimit bool                    // the stream was truncated at its end, and could be completed
	Reserved         *accounting.Reservation // nil = the attempt costs nothing
	UsageFilter      *aggregate.UsageFilter  // removes the usage that the client did not ask for; nil = it did
	Lease            *backend.Lease
	Wait             backend.Wait // in the backend's queue

	request         *request.Request
	resp            *http.Response
	cancel          context.CancelCauseFunc
	redact          func(string) string
	listens         func() bool          // whether the process of a local server still listens; nil = the backend is an upstream
	completer       *responses.Completer // adds what the schema of responses requires; nil = another dialect
	events          *wire.EventReader    // nil = it is not a stream
	aggregator      aggregate.Aggregator // builds the whole answer from a stream; nil = the client asked for a stream
	streamRequested bool                 // llmsup requested that stream
	usageSum        *wire.UsageSum       // nil = the stream reports the usage of all choices
	finished        uint64               // the choices that have their finish reason
	completed       int64                // how many images are complete
	idle            time.Duration
	watchdog        idleWatchdog
}

// IsStream reports whether the answer is a stream.
func (a *Answer) IsStream() bool { return a.events != nil }

// IsJSON reports whether the media type of the answer is that of JSON.
func (a *Answer) IsJSON() bool {
	mediaType := mediaTypeOf(a.resp.Header)
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// Status returns the answer's HTTP status.
func (a *Answer) Status() int { return a.resp.StatusCode }

// Header returns the answer's header.
func (a *Answer) Header() http.Header { return a.resp.Header }

// Length returns the length of a whole answer, in bytes; -1 = unknown.
func (a *Answer) Length() int64 { return a.resp.ContentLength }

// Redact removes the backend's key from a text.
func (a *Answer) Redact(text string) string { return a.redact(text) }

// Close ends the attempt. A backend that is still generating is aborted.
func (a *Answer) Close() {
	a.cancel(context.Canceled)
	_ = a.resp.Body.Close()          // closing a read body cannot lose data
	a.Lease.Release(backend.Aborted) // no effect if it has been released
}

// MeasurePrompt measures how fast the backend has processed the call's prompt, by the usage of
// the answer. A whole answer that was not a stream does not say when it began.
func (a *Answer) MeasurePrompt(u wire.Usage) {
	if a.IsStream() || a.aggregator != nil {
		a.Lease.Prompt(u, a.First)
	}
}

// endGrace is how long a backend may take to close a complete stream.
const endGrace = time.Second

var errEnded = errors.New("the stream has ended")

// CancelAfterGrace cancels the attempt if the backend does not close a complete stream
// within endGrace. A closed stream lets its connection be used again, which is not worth a
// longer wait.
func (a *Answer) CancelAfterGrace() *time.Timer {
	return time.AfterFunc(endGrace, func() { a.cancel(errEnded) })
}

// Abandon ends the attempt whose stream broke. The backend may still be generating.
func (a *Answer) Abandon() {
	a.Lease.Release(backend.Aborted)
	a.cancel(errEnded)
}

// Buffered reports whether another event can be read without waiting.
func (a *Answer) Buffered() bool { return a.events.Buffered() }

// Next returns the next event of a stream, and what the dialect reads from it. io.EOF is
// the clean end of the connection, io.ErrUnexpectedEOF an incomplete event.
func (a *Answer) Next(d wire.Dialect) (e wire.Event, m wire.EventInfo, err error) {
	if e, err = a.await(); err != nil {
		return e, m, err
	}
	if m = d.InspectEvent(e, true); e.Cut && !m.Whole(e) {
		return e, m, io.ErrUnexpectedEOF
	}
	a.Lease.Received(len(e.Data))
	a.Reserved.Observe(e.Data)
	m.Usage = a.usageSum.Add(e, m.Usage)
	a.markFinished(m, e)
	return e, m, nil
}

// ForClient returns the bytes that the client receives for an event of the stream. They are
// valid until the next call.
func (a *Answer) ForClient(e wire.Event) []byte {
	if a.completer != nil {
		return a.completer.Event(e)
	}
	return a.UsageFilter.Pass(e)
}

// ErrorForClient returns the bytes of an error event of llmsup's own as the next event of the
// stream.
func (a *Answer) ErrorForClient(event []byte) []byte {
	if a.completer != nil {
		return a.completer.Error(event)
	}
	return event
}

// markFinished records which choices an event ends, and which have more text after their end.
func (a *Answer) markFinished(m wire.EventInfo, e wire.Event) {
	if m.Completed {
		a.completed++
	}
	if a.finished |= m.Finished; a.finished != m.Finished {
		a.finished &^= wire.Reopened(e.Data)
	}
}

// Complete reports whether a stream that ended cleanly, but without an end mark, is
// complete: every choice has its finish reason, or every image is there.
func (a *Answer) Complete() bool {
	body := a.request.Body
	switch d := a.request.Dialect.(type) {
	case interface {
		AllFinished(body []byte, finished uint64) bool
	}:
		return d.AllFinished(body.Raw, a.finished)
	case wire.Images:
		return d.AllCompleted(body.Count, a.completed)
	}
	return false
}

// HeldEvents returns a reader of the held events, and of those that the usage filter holds
// back.
func (a *Answer) HeldEvents() *wire.EventReader {
	return wire.NewEventReader(io.MultiReader(bytes.NewReader(a.Held), bytes.NewReader(a.UsageFilter.Pending())))
}

// send sends the call and reads its response up to the first answer.
func (p Params) send(ctx context.Context, at *backend.Attempt, reserved *accounting.Reservation) (*Answer, *backend.Failure) {
	resp, err := p.Backend.Send(ctx, at)
	if err != nil {
		return nil, at.SendFailure(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		failed := backend.ReadError(resp, at)
		_ = resp.Body.Close()
		return nil, failed
	}
	a := &Answer{request: p.Request, resp: resp, Lease: at.Lease, Reserved: reserved}
	if server, ok := p.Backend.(*backend.Server); ok {
		a.listens = func() bool { return server.Listens(ctx) }
	}
	if _, ok := p.Request.Dialect.(wire.Responses); ok {
		a.completer = responses.New(p.Request.Body.Raw, p.Model, p.Backend.Info().PartialResponses)
	}
	failed := a.open(p.Request, p.Backend.Info().Local)
	if failed != nil {
		failed.Usage = a.Usage
		_ = resp.Body.Close()
		return nil, failed
	}
	return a, nil
}

// open reads a response until it is known whether it is an answer.
func (a *Answer) open(r *request.Request, local bool) *backend.Failure {
	if local {
		a.usageSum = &wire.UsageSum{}
	}
	if !isEventStream(a.resp.Header) {
		return a.readWhole(r.Dialect)
	}
	switch form := a.Lease.Form; {
	case form != nil && form.OnlyUsage():
		a.UsageFilter = &aggregate.UsageFilter{Local: local}
	case form != nil:
		a.aggregator, a.streamRequested = form.Aggregator(), true
	}
	if a.aggregator == nil && aggregate.WantsNoStream(r) {
		a.aggregator = aggregate.ForUpstream(r.Path)
	}
	return a.awaitFirstEvent(r.Dialect)
}

// isEventStream reports whether an answer is a stream. The parameters of its media type
// do not matter.
func isEventStream(h http.Header) bool {
	return mediaTypeOf(h) == "text/event-stream"
}

func mediaTypeOf(h http.Header) string {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

// awaitFirstEvent reads a stream up to the first event that answers the call. Comments,
// roles and empty deltas are held with it.
func (a *Answer) awaitFirstEvent(d wire.Dialect) *backend.Failure {
	a.events = wire.NewEventReader(a.resp.Body)
	for {
		e, err := a.events.Next()
		if errors.Is(err, io.EOF) {
			return failureAfterHeaders(backend.BadResponse, "ended its stream without an answer")
		}
		if err != nil {
			return failureAfterHeaders(backend.Lost, "lost the connection before the first answer: "+wire.RootCause(err))
		}
		m := d.InspectEvent(e, false)
		if e.Cut && !m.Whole(e) {
			return failureAfterHeaders(backend.Lost, "ended its stream in the middle of an event, before the first answer")
		}
		if failed := a.holdEvent(e, m); failed != nil {
			return failed
		}
		switch {
		case m.Failed != "":
			failed := failureAfterHeaders(backend.BadResponse, "answered 200 with an error")
			failed.Message = wire.Shorten(m.Failed)
			return failed
		case m.Answered:
			a.Ended = m.Ended
			return nil
		case m.Ended:
			return failureAfterHeaders(backend.BadResponse, "ended its stream without an answer")
		case len(a.Held) > wire.MaxEvent:
			return failureAfterHeaders(backend.BadResponse, "sent too many events without an answer")
		}
	}
}

// holdEvent holds an event that comes before the commit.
func (a *Answer) holdEvent(e wire.Event, m wire.EventInfo) *backend.Failure {
	a.Lease.Received(len(e.Data))
	a.Reserved.Observe(e.Data)
	a.Usage.Merge(a.usageSum.Add(e, m.Usage))
	a.markFinished(m, e)
	if a.aggregator == nil {
		a.Held = append(a.Held, a.ForClient(e)...)
	} else if err := a.aggregator.Add(e); err != nil {
		return a.aggregationFailure(err)
	}
	return nil
}

// failureAfterHeaders returns the failure of a backend that has sent a success status, and
// so may have generated something.
func failureAfterHeaders(reason backend.Reason, detail string) *backend.Failure {
	return &backend.Failure{Reason: reason, Detail: detail, Phase: backend.Generating}
}

// readWhole reads a body, up to the size that can be held.
func (a *Answer) readWhole(d wire.Dialect) *backend.Failure {
	limit := aggregate.MaxBytes
	if progressive, ok := d.(wire.Progressive); ok {
		limit = progressive.HeldBytes(a.IsJSON())
	}
	held, err := readUpTo(int64(limit), a.resp)
	a.Held = held
	a.Lease.Received(len(held))
	a.Reserved.Observe(held)
	if err != nil {
		return failureAfterHeaders(backend.Lost, "lost the connection in the middle of its answer: "+wire.RootCause(err))
	}
	if len(held) == limit {
		a.Rest = restReader{a, a.resp.Body}
		return nil
	}
	if a.isCutOff() {
		return failureAfterHeaders(backend.Lost, "exited in the middle of its answer")
	}
	m := d.InspectBody(held)
	a.Usage = m.Usage
	if m.Failed != "" {
		failed := failureAfterHeaders(backend.BadResponse, "answered 200 without an answer")
		failed.Message = wire.Shorten(m.Failed)
		return failed
	}
	return nil
}

// isCutOff reports whether an answer that has ended is not whole, as far as the end does not
// show it: the connection's end is the answer's only end, and the process at that address has
// ended, too.
func (a *Answer) isCutOff() bool {
	return a.resp.ContentLength < 0 && len(a.resp.TransferEncoding) == 0 && a.listens != nil && !a.listens()
}

// readUpTo reads up to limit bytes of an answer's body. The buffer has the size of the
// Content-Length, unless that is too large to be trusted.
func readUpTo(limit int64, resp *http.Response) ([]byte, error) {
	const trusted = 64 << 10
	b := request.Buffer{Bytes: make([]byte, 0, min(max(resp.ContentLength+1, 512), trusted))}
	err := b.Fill(io.LimitReader(resp.Body, limit))
	return b.Bytes, err
}

// Discard closes an answer that cannot be used, and returns it as a failure. A complete
// answer is settled like one that was used: its cost is known.
func (a *Answer) Discard(backendName, detail string) *Failure {
	a.Close()
	f := &Failure{Failure: *failureAfterHeaders(backend.BadResponse, detail)}
	f.Backend, f.Usage = backendName, a.Usage
	if a.Reserved != nil {
		f.Charge = new(a.Reserved.Settle(a.Usage, !a.IsStream() && a.Rest == nil))
	}
	return f
}
