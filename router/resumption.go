package router

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// resumption continues a stream that broke after its first part was sent: another
// candidate continues the text, and its answer becomes the rest of the same stream, if it is plain
// text. A call is resumed at most once by a backend that is not a server.
type resumption struct {
	*exchange

	first      *request.Request // the call as the backend whose stream it is got it
	transcript resume.Transcript
	lease      *backend.Lease // of the stream
	from       int            // the first candidate that may continue it
}

// newResumption returns the resumption of a candidate's stream; nil = it cannot be continued.
// Only the answer of a free primary is continued: on another box, else by a fallback.
func (x *exchange) newResumption(c plan.Candidate, lease *backend.Lease) *resumption {
	d := resume.DialectOf(x.request.Path)
	next := 1 + slices.IndexFunc(x.candidates, func(other plan.Candidate) bool { return other.Name == c.Name })
	if d == nil || !c.Primary || c.Metered || !x.canContinue(next) && !x.plan.MayReturn() {
		return nil
	}
	return &resumption{exchange: x, from: next, first: c.RequestOf(x.request), transcript: resume.Transcript{Dialect: d}, lease: lease}
}

// canContinue reports whether another backend can continue an answer now: a box that refused the
// call, or a candidate from an index on.
func (x *exchange) canContinue(next int) bool {
	return len(x.refusals) > 0 || slices.ContainsFunc(x.candidates[next:], x.mayContinue)
}

// mayContinue reports whether a candidate may continue an answer of the primary: the primary on
// another box, unless that has left the fleet, and a fallback if the route says so and the answer is
// not paid for twice.
func (x *exchange) mayContinue(c plan.Candidate) bool {
	if c.Primary {
		return c.Backend.Availability().Reason != backend.Connect
	}
	return x.plan.Route.Resume && plan.FallsBackOn(x.plan.Route, backend.Lost) && !(c.Metered && x.mayHaveBilled())
}

// observe adds an event that the client receives to the transcript.
func (r *resumption) observe(data []byte) {
	if r == nil {
		return
	}
	r.transcript.Observe(data)
	if r.transcript.NotResumable != "" {
		r.lease.Bind()
	}
}

// observeAll adds the held events to the transcript.
func (r *resumption) observeAll(events *wire.EventReader) {
	for {
		e, err := events.Next()
		if err != nil {
			return
		}
		r.observe(e.Data)
	}
}

var errNoResume = errors.New("no other backend can continue the answer")

// resume writes the rest of a broken stream. It returns errNoResume if it has written
// nothing; then the caller must send the error event. A continuation on a server may break, too.
func (r *resumption) resume(w *attempt.ClientWriter) error {
	if r.transcript.Header.ID == "" || resume.NotResumable(gjson.Parse(r.first.Body.Text())) != "" { // checked only now: nearly all streams end normally
		return errNoResume
	}
	broke := errNoResume
	for {
		err := r.resumeOnce(w)
		if errors.Is(err, errNoResume) {
			return broke
		}
		if broke = err; !errors.Is(err, errTruncated) || !r.rec.Resumed.Locally {
			return err
		}
	}
}

// resumeOnce has one candidate write the rest.
func (r *resumption) resumeOnce(w *attempt.ClientWriter) error {
	t := &r.transcript
	_, left := resume.ReduceMaxTokens(gjson.Parse(r.first.Body.Text()), t.Tokens)
	switch {
	case t.NotResumable != "" || t.TextEnded && t.Finish == "":
		return errNoResume
	case t.Finish != "": // only the end mark was missing
		return r.writeEnd(w, t.UsageWith(r.rec.Usage))
	case left == 0:
		if err := r.writeFinish(w, t.Dialect.OutOfTokens); err != nil {
			return err
		}
		return r.writeEnd(w, t.UsageWith(r.rec.Usage))
	}
	r.rec.Call.Fail(backend.Lost, r.rec.Status, new(usd.Amount), "lost the connection in the middle of the answer")
	a := r.requestRest()
	if a == nil {
		return errNoResume
	}
	defer a.Close()
	r.rec.Reserved, r.rec.Resumed.FirstTokens = a.Reserved, t.Tokens
	if _, err := fmt.Fprintf(w, ": resumed by %s\n\n", r.rec.Resumed.By); err != nil {
		return err
	}
	return r.relayRest(w.For(a), a)
}

// requestRest requests the rest of the stream from the next candidates; nil = none answered.
func (r *resumption) requestRest() (a *attempt.Answer) {
	r.tryEach(r.from, func(i int) bool { a = r.requestRestAt(i); return a != nil })
	return a
}

// requestRestAt requests the rest of the stream from a candidate; nil = it has not answered.
func (r *resumption) requestRestAt(i int) *attempt.Answer {
	r.from = i + 1
	c := r.candidates[i]
	if r.ctx.Err() != nil || !r.mayContinue(c) {
		return nil
	}
	a, failed := r.continueAt(i, r.transcript.Dialect, r.transcript.Text.String(), r.transcript.Tokens)
	if a == nil && failed == nil {
		return nil
	}
	if failed == nil && !a.IsStream() {
		failed = a.Discard(c.Name, "answered a streaming call without a stream")
	}
	if failed == nil {
		r.rec.Call.Continue()
		r.rec.Resumed.By, r.rec.Resumed.Locally, r.deadline = c.Name, c.Local, time.Time{}
		if !r.canContinue(r.from) {
			a.Lease.Bind()
		}
		return a
	}
	if !r.mayWaitAt(c, failed) {
		r.rec.AddDetail(failed.LogMessage())
		r.recordFailure(c, failed)
	}
	return nil
}

// relayRest writes the continuation as events of the stream that broke.
func (r *resumption) relayRest(w *attempt.ClientWriter, a *attempt.Answer) error {
	a.Watch()
	defer a.StopWatching()
	c := continuation{resumption: r, client: w, overlap: resume.NewOverlapFilter(r.transcript.Text.String())}
	held := a.HeldEvents()
	for {
		e, err := held.Next()
		var m wire.EventInfo
		if err == nil {
			m = r.request.Dialect.InspectEvent(e, false)
		} else if e, m, err = a.Next(r.request.Dialect); errors.Is(err, io.EOF) && a.Complete() {
			m.Ended, err = true, nil
		}
		if err != nil {
			return fmt.Errorf("%w: the continuation broke, too", errTruncated)
		}
		c.used.Merge(m.Usage)
		r.rec.Resumed.Usage = c.used
		switch {
		case m.Failed != "":
			return fmt.Errorf("%w: the continuation failed, too", errTruncated)
		case m.Ended && !c.finished:
			return fmt.Errorf("%w: the continuation has no finish reason", errTruncated)
		case m.Ended:
			a.Lease.Release(backend.Completed)
			return r.writeEnd(w, resume.SumUsage(r.rec.Resumed.FirstTokens, c.used))
		}
		if err := c.forward(e); err != nil {
			return err
		}
	}
}

// continuation is the second part of a stream, or a later one.
type continuation struct {
	*resumption

	client   *attempt.ClientWriter
	overlap  resume.OverlapFilter // removes what the backend repeats of the first part
	used     wire.Usage
	finished bool // the finish reason was written
}

// forward writes an event of the second backend in the form of the first stream.
func (c *continuation) forward(e wire.Event) error {
	if len(e.Data) == 0 {
		return nil
	}
	text, finish, notResumable := c.transcript.Dialect.Continuation(gjson.ParseBytes(e.Data))
	if c.transcript.NotResumable = notResumable; notResumable != "" {
		return fmt.Errorf("%w: %s", errTruncated, notResumable)
	}
	if text = c.overlap.Filter(text); finish != "" {
		text += c.overlap.Flush(finish)
	}
	if text != "" {
		c.rec.Call.Events.Add(1)
		c.transcript.Add(text)
		if err := c.client.Send(c.transcript.Dialect.TextEvent(c.transcript.Header, text)); err != nil {
			return err
		}
	}
	if finish == "" || c.finished {
		return nil
	}
	c.finished = true
	return c.writeFinish(c.client, finish)
}

// writeFinish writes the finish reason.
func (r *resumption) writeFinish(w *attempt.ClientWriter, reason string) error {
	r.transcript.Finish = reason
	return w.Send(r.transcript.Dialect.FinishEvent(r.transcript.Header, reason))
}

// writeEnd writes the usage, if the client asked for it, and the dialect's end mark.
func (r *resumption) writeEnd(w *attempt.ClientWriter, u wire.Usage) error {
	r.rec.Usage.Merge(u)
	r.rec.RecordComplete()
	includeUsage := gjson.GetBytes(r.request.Body.Raw, "stream_options.include_usage").Bool()
	return w.Send(r.transcript.Dialect.End(&r.transcript, u, includeUsage))
}
