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
	"github.com/llmsup/llmsup/router/wire"
)

// Answer is what the router commits to: nothing of it has been sent yet, and everything
// that was read of it is held. It is a stream (Events), or a whole answer (Held, and Rest
// if it is too large to be held).
type Answer struct {
	Usage    wire.Usage              // as far as it is known
	First    time.Time               // when the answer began
	Held     []byte                  // what was read: a stream's events up to the first answer, or a body
	Rest     io.Reader               // what is left of a body too large to be held; nil = nothing
	Ended    bool                    // the stream's end was among what was read
	Mended   bool                    // the stream's end was lost, and could be completed
	Reserved *accounting.Reservation // nil = the attempt costs nothing
	Unasked  *aggregate.UsageFilter  // removes the usage that the client did not ask for; nil = it did
	Lease    *backend.Lease

	resp       *http.Response
	cancel     context.CancelCauseFunc
	redact     func(string) string
	events     *wire.EventReader    // nil = it is no stream
	aggregator aggregate.Aggregator // puts a stream together that the client did not ask for; nil = it did
	ours       bool                 // llmsup asked for that stream
	sum        *wire.UsageSum       // nil = the stream's usage is of all choices
	finished   uint64               // the choices that have their finish reason
	idle       time.Duration
	watchdog   idleWatchdog
}

// IsStream says whether the answer is a stream.
func (a *Answer) IsStream() bool { return a.events != nil }

// Status returns the answer's HTTP status.
func (a *Answer) Status() int { return a.resp.StatusCode }

// Header returns the answer's header.
func (a *Answer) Header() http.Header { return a.resp.Header }

// Length returns the length of a whole answer, in bytes; -1 = unknown.
func (a *Answer) Length() int64 { return a.resp.ContentLength }

// Redact removes the backend's key from a text.
func (a *Answer) Redact(text string) string { return a.redact(text) }

// Close ends the attempt. A backend that has not come to its end is aborted.
func (a *Answer) Close() {
	a.cancel(context.Canceled)
	_ = a.resp.Body.Close()          // it was only read
	a.Lease.Release(backend.Aborted) // unless it has been
}

// endGrace is how long a backend may take to close a stream that has ended.
const endGrace = time.Second

var errEnded = errors.New("the stream has ended")

// LimitEnd gives the backend a second to close a stream that is complete: its connection
// can be used again, but is not worth waiting for.
func (a *Answer) LimitEnd() *time.Timer {
	return time.AfterFunc(endGrace, func() { a.cancel(errEnded) })
}

// Abandon ends the attempt at a stream that broke. The backend may still be at work.
func (a *Answer) Abandon() {
	a.Lease.Release(backend.Aborted)
	a.cancel(errEnded)
}

// Buffered says whether another event can be read without waiting.
func (a *Answer) Buffered() bool { return a.events.Buffered() }

// Next returns the next event of a stream, and what it means. io.EOF is the clean end of
// the connection, io.ErrUnexpectedEOF an event that is not complete.
func (a *Answer) Next(d wire.Dialect) (e wire.Event, m wire.EventInfo, err error) {
	if e, err = a.await(); err != nil {
		return e, m, err
	}
	if m = d.InspectEvent(e, true); e.Cut && !m.Whole(e) {
		return e, m, io.ErrUnexpectedEOF
	}
	a.Lease.Received(len(e.Data))
	a.Reserved.Observe(e.Data)
	m.Usage = a.sum.Add(e, m.Usage)
	a.finish(m, e)
	return e, m, nil
}

// finish notes which choices an event ends, and which have more text after their end.
func (a *Answer) finish(m wire.EventInfo, e wire.Event) {
	if a.finished |= m.Finished; a.finished != m.Finished {
		a.finished &^= wire.Reopened(e.Data)
	}
}

// Complete says whether a stream that ended cleanly, and without an end mark, is complete
// all the same: every choice has its finish reason.
func (a *Answer) Complete(r *request.Request) bool {
	of, ok := r.Dialect.(wire.Choices)
	return ok && of.AllFinished(r.Body.Raw, a.finished)
}

// HeldEvents reads the events that are held, and those that the usage filter keeps back.
func (a *Answer) HeldEvents() *wire.EventReader {
	return wire.NewEventReader(io.MultiReader(bytes.NewReader(a.Held), bytes.NewReader(a.Unasked.Pending())))
}

// ask sends the call and reads up to the first answer.
func (p Params) ask(ctx context.Context, at *backend.Attempt, reserved *accounting.Reservation) (*Answer, *backend.Failure) {
	resp, err := p.Backend.Send(ctx, at)
	if err != nil {
		return nil, at.SendFailure(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		failed := backend.ReadError(resp, at)
		_ = resp.Body.Close()
		return nil, failed
	}
	a := &Answer{resp: resp, Lease: at.Lease, Reserved: reserved}
	failed := a.open(p.Request, p.Backend.Info().Local)
	if failed != nil {
		failed.Usage = a.Usage
		_ = resp.Body.Close()
		return nil, failed
	}
	return a, nil
}

// open reads a response up to the point where it is an answer, or turns out to be none.
func (a *Answer) open(r *request.Request, local bool) *backend.Failure {
	if local {
		a.sum = &wire.UsageSum{}
	}
	if !isEventStream(a.resp.Header) {
		return a.readWhole(r.Dialect)
	}
	switch form := a.Lease.Form; {
	case form != nil && form.OnlyUsage():
		a.Unasked = &aggregate.UsageFilter{Local: local}
	case form != nil:
		a.aggregator, a.ours = form.Aggregator(), true
	}
	if a.aggregator == nil && aggregate.WantsNoStream(r) {
		a.aggregator = aggregate.ForUpstream(r.Path)
	}
	return a.awaitFirstEvent(r.Dialect)
}

// isEventStream says whether an answer is a stream. The parameters of its type do not
// matter.
func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// awaitFirstEvent reads a stream up to the first event that answers the call. Comments,
// roles and empty deltas are held with it.
func (a *Answer) awaitFirstEvent(d wire.Dialect) *backend.Failure {
	a.events = wire.NewEventReader(a.resp.Body)
	for {
		e, err := a.events.Next()
		if errors.Is(err, io.EOF) {
			return broken(backend.BadResponse, "ended its stream without an answer")
		}
		if err != nil {
			return broken(backend.Lost, "broke its stream before the first answer: "+wire.RootCause(err))
		}
		m := d.InspectEvent(e, false)
		if e.Cut && !m.Whole(e) {
			return broken(backend.Lost, "broke its stream before the first answer")
		}
		if failed := a.hold(e, m); failed != nil {
			return failed
		}
		switch {
		case m.Failed != "":
			failed := broken(backend.BadResponse, "answered 200 with an error")
			failed.Message = wire.Shorten(m.Failed)
			return failed
		case m.Answered:
			a.Ended = m.Ended
			return nil
		case m.Ended:
			return broken(backend.BadResponse, "ended its stream without an answer")
		case len(a.Held) > wire.MaxEvent:
			return broken(backend.BadResponse, "sent only what is no answer")
		}
	}
}

// hold takes an event that comes before the answer is sent.
func (a *Answer) hold(e wire.Event, m wire.EventInfo) *backend.Failure {
	a.Lease.Received(len(e.Data))
	a.Reserved.Observe(e.Data)
	a.Usage.Merge(a.sum.Add(e, m.Usage))
	a.finished |= m.Finished
	if a.aggregator == nil {
		a.Held = append(a.Held, a.Unasked.Pass(e)...)
	} else if err := a.aggregator.Add(e); err != nil {
		return a.notCollected(err)
	}
	return nil
}

// broken returns the failure of a backend that may have generated something.
func broken(reason backend.Reason, detail string) *backend.Failure {
	return &backend.Failure{Reason: reason, Detail: detail, Phase: backend.Generating}
}

// readWhole reads a body, as far as it can be held.
func (a *Answer) readWhole(d wire.Dialect) *backend.Failure {
	held, err := readUpTo(aggregate.MaxBytes, a.resp)
	a.Held = held
	a.Lease.Received(len(held))
	a.Reserved.Observe(held)
	if err != nil {
		return broken(backend.Lost, "broke its answer off: "+wire.RootCause(err))
	}
	if len(held) == aggregate.MaxBytes {
		a.Rest = silenceEnds{a, a.resp.Body}
		return nil
	}
	m := d.InspectBody(held)
	a.Usage = m.Usage
	if m.Failed != "" {
		failed := broken(backend.BadResponse, "answered 200 without an answer")
		failed.Message = wire.Shorten(m.Failed)
		return failed
	}
	return nil
}

// readUpTo reads an answer's body, or as many bytes of it. One of known length is read
// into memory of that size, unless it is too large to be trusted.
func readUpTo(most int64, resp *http.Response) ([]byte, error) {
	const trusted = 64 << 10
	b := request.Buffer{Bytes: make([]byte, 0, min(max(resp.ContentLength+1, 512), trusted))}
	err := b.Fill(io.LimitReader(resp.Body, most))
	return b.Bytes, err
}

// Discard closes an answer that is of no use, and returns the failure that it is then. One
// that has come to its end is settled like an answer that was used: its cost is known.
func (a *Answer) Discard(backendName, detail string) *Failure {
	a.Close()
	f := &Failure{Failure: *broken(backend.BadResponse, detail)}
	f.Backend, f.Usage = backendName, a.Usage
	if a.Reserved != nil {
		f.Charge = new(a.Reserved.Settle(a.Usage, !a.IsStream() && a.Rest == nil))
	}
	return f
}
