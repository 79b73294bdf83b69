package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

var (
	errTimeout = errors.New("no answer in time")
	errGone    = errors.New("the server ended")
	errStalled = errors.New("it was silent for too long")
)

// answer is an attempt that the router commits to: nothing of it has been sent
// yet, and everything that was read of it is held.
type answer struct {
	resp     *http.Response
	cancel   context.CancelCauseFunc
	usage    wire.Usage
	load     *traffic // where the backend's work is counted
	place    *place
	reserved *accounting.Reservation // nil = it costs nothing
	redact   func(string) string     // takes the backend's key out of its words
	resume   *resumption             // how the stream could be continued elsewhere; nil = it can't be

	events    *wire.EventReader      // a stream; nil else
	assembler aggregate.Aggregator   // what puts a stream together that the client did not ask for; nil = it did
	ours      bool                   // the router asked for that stream
	sum       *wire.UsageSum         // nil = its usage is of all choices
	unasked   *aggregate.UsageFilter // what takes the usage out that the client did not ask for; nil = it did
	mended    bool                   // its end was lost, and known
	first     time.Time              // when it began
	held      []byte                 // what was read so far: a stream's events up to the first answer, or a body
	ended     bool                   // the stream's end was among it
	finished  uint64                 // the choices that have their finish reason
	idle      time.Duration          // for which a stream may be silent; 0 = for ever
	watch     watch                  // over it
	rest      io.Reader              // what is left of a body too large to be held; nil else
}

func (a *answer) close() {
	a.cancel(context.Canceled)
	_ = a.resp.Body.Close()    // it was only read
	a.place.release(brokenOff) // unless it has been
}

// attempt gives a call to one backend and waits for its first answer: until
// timeout, until the backend is gone, or until the client leaves.
func attempt(client context.Context, c *request.Request, s step, timeout, idle time.Duration, other alternative, unmodified bool) (*answer, *failure) {
	began := time.Now()
	reserved, over := s.accounting.Reserve(c, s.attempt())
	if over != nil { // since the call was planned
		return nil, &failure{backend: s.backend.name(), reason: Failed, detail: "is not asked: " + over.String(), overBudget: over}
	}
	ctx, cancel := context.WithCancelCause(client)
	timer := time.AfterFunc(timeout, func() { cancel(errTimeout) })
	at, failed := s.backend.admit(ctx, c, other, timeout)
	if failed != nil {
		timer.Stop()
		cancel(context.Canceled)
		failed.backend, failed.detail = s.backend.name(), s.backend.redact(failed.detail)
		failed.settle(reserved)
		return nil, failed
	}
	var answered chan struct{}
	if gone := s.backend.availability().gone; gone != nil { // of now: the call may have waited for this process
		answered = make(chan struct{})
		go func() {
			select {
			case <-gone:
				cancel(errGone)
			case <-answered:
			case <-ctx.Done():
			}
		}()
	}
	var form *aggregate.Form
	if !unmodified {
		form = s.backend.formFor(c)
	}
	_, local := s.backend.(*localBackend)
	a, failed := ask(withProgress(ctx, &progress{deadline: began.Add(timeout), since: time.Now(), other: other, form: form, local: local, reserved: reserved}), c, s)
	// A deadline that has passed has cancelled ctx: the answer can't be used.
	inTime := timer.Stop() || failed != nil
	first := time.Now()
	if failed == nil {
		a.idle, a.cancel, a.redact = idle, cancel, s.backend.redact
	}
	if failed == nil && inTime && a.assembler != nil {
		if failed = a.collect(c); failed != nil {
			failed.usage = a.usage
		}
	}
	if answered != nil {
		close(answered)
	}
	if failed == nil && inTime {
		a.cancel, a.place, a.first = cancel, at, first
		s.backend.heard(nil, at, false)
		return a, nil
	}
	how := brokenOff
	defer func() { at.release(how) }()
	if failed != nil && failed.resp != nil { // an error of its own is an end
		how = withError
	}
	if a != nil {
		_ = a.resp.Body.Close()
	}
	if failed == nil {
		failed = &failure{begun: true}
	}
	if why := contextEnded(ctx); why != "" {
		failed.reason = why
		failed.resp, failed.body, failed.said, failed.again = nil, nil, "", false
		failed.detail = "ended while the call waited on it"
		switch {
		case why == Timeout:
			failed.detail = fmt.Sprintf("gave no answer within %s", timeout)
		case s.backend.availability().hung:
			failed.reason, failed.detail = Stalled, "hung while the call waited on it"
		}
	}
	failed.backend = s.backend.name()
	failed.said, failed.detail = s.backend.redact(failed.said), s.backend.redact(failed.detail)
	s.backend.heard(failed, at, client.Err() != nil)
	cancel(context.Canceled)
	failed.settle(reserved)
	if up, ok := s.backend.(*upstreamBackend); ok && form != nil && failed.isAbout("stream_options") {
		a, failed := attempt(client, c, s, timeout, idle, other, true)
		if failed == nil || !failed.callersFault() { // else the error may have quoted the client's own text
			up.withoutUsage.Store(true)
		}
		return a, failed
	}
	return nil, failed
}

// ask sends the call and reads up to the first answer.
func ask(ctx context.Context, c *request.Request, s step) (*answer, *failure) {
	so := progressOf(ctx)
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { so.got.Store(true) }, WroteHeaders: func() { so.sent.Store(true) },
	})
	resp, err := s.backend.do(traced, c, s.model)
	if err != nil {
		sent := so.sent.Load()
		fair := isFair(time.Since(so.since), sent, c.Body.Stream)
		if !sent {
			return nil, &failure{reason: Connect, detail: "can't be reached: " + rootCause(err), fair: fair}
		}
		return nil, &failure{reason: Lost, detail: "broke the connection: " + rootCause(err), begun: !unprocessed(err), fair: fair}
	}
	a, failed := open(ctx, resp, c, s.backend.load())
	if failed != nil {
		failed.spoke = true
		if a != nil {
			failed.usage = a.usage
		}
		_ = resp.Body.Close()
		return nil, failed
	}
	return a, nil
}

// open reads a response up to the point where it is an answer, or is none.
func open(ctx context.Context, resp *http.Response, c *request.Request, load *traffic) (*answer, *failure) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refused(resp, progressOf(ctx).since)
	}
	so := progressOf(ctx)
	a := &answer{resp: resp, load: load, reserved: so.reserved}
	if so.local {
		a.sum = &wire.UsageSum{}
	}
	switch form := so.form; {
	case form == nil:
	case form.OnlyUsage():
		a.unasked = &aggregate.UsageFilter{Local: so.local}
	default:
		a.assembler, a.ours = form.Aggregator(), true
	}
	if isEventStream(resp.Header) {
		if a.assembler == nil && aggregate.WantsNoStream(c) {
			a.assembler = aggregate.ForUpstream(c.Path)
		}
		return a, a.awaitFirstEvent(c.Dialect)
	}
	a.assembler, a.unasked = nil, nil
	return a, a.readWhole(c.Dialect)
}

// isEventStream says whether an answer is a stream. What its type has for
// parameters does not matter.
func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// awaitFirstEvent reads a stream up to the first event that answers the call.
// Comments, roles and empty deltas are held back with it.
func (a *answer) awaitFirstEvent(d wire.Dialect) *failure {
	a.events = wire.NewEventReader(a.resp.Body)
	for {
		e, err := a.events.Next()
		if errors.Is(err, io.EOF) {
			return &failure{reason: BadResponse, detail: "ended its stream without an answer", begun: true}
		}
		if err != nil {
			return &failure{reason: Lost, detail: "broke its stream before the first answer: " + rootCause(err), begun: true}
		}
		m := d.InspectEvent(e, false)
		if e.Cut && !m.Whole(e) {
			return &failure{reason: Lost, detail: "broke its stream before the first answer", begun: true}
		}
		a.load.output.Add(int64(len(e.Data)))
		a.reserved.Observe(e.Data)
		a.usage.Merge(a.sum.Add(e, m.Usage))
		a.finished |= m.Finished
		if a.assembler != nil {
			if err := a.assembler.Add(e); err != nil {
				return a.uncollected(err)
			}
		} else {
			a.held = append(a.held, a.unasked.Pass(e)...)
		}
		switch {
		case m.Failed != "":
			return &failure{reason: BadResponse, detail: "answered 200 with an error", said: wire.Shorten(m.Failed), begun: true}
		case m.Answered:
			a.ended = m.Ended
			return nil
		case m.Ended:
			return &failure{reason: BadResponse, detail: "ended its stream without an answer", begun: true}
		case len(a.held) > wire.MaxEvent:
			return &failure{reason: BadResponse, detail: "sent only what is no answer", begun: true}
		}
	}
}

func (a *answer) readWhole(d wire.Dialect) *failure {
	held, err := readUpTo(aggregate.MaxBytes, a.resp)
	a.held = held
	a.load.output.Add(int64(len(held)))
	a.reserved.Observe(held)
	if err != nil {
		return &failure{reason: Lost, detail: "broke its answer off: " + rootCause(err), begun: true}
	}
	if len(held) == aggregate.MaxBytes {
		a.rest = a.resp.Body
		return nil
	}
	m := d.InspectBody(held)
	a.usage = m.Usage
	if m.Failed != "" {
		return &failure{reason: BadResponse, detail: "answered 200 without an answer", said: wire.Shorten(m.Failed), begun: true}
	}
	return nil
}

// readUpTo reads an answer's body, or as many bytes of it. One of known length is
// read into memory of that size, unless it is so large that its word is not to be
// taken.
func readUpTo(most int64, resp *http.Response) ([]byte, error) {
	const wordTaken = 64 << 10
	b := request.Buffer{Bytes: make([]byte, 0, min(max(resp.ContentLength+1, 512), wordTaken))}
	err := b.Fill(io.LimitReader(resp.Body, most))
	return b.Bytes, err
}
