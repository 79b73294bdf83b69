package router

import (
	"errors"
	"fmt"
	"io"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// resumption continues a stream that broke after its first part was sent: another
// candidate is asked to continue the text, and its answer becomes the rest of the same
// stream. Once a call, and only if the answer is plain text.
type resumption struct {
	*exchange

	transcript resume.Transcript
	tried      bool
}

// resumption returns how a stream of a candidate could be continued; nil = it can't be.
// Only the answer of a free primary is continued.
func (x *exchange) resumption(c plan.Candidate) *resumption {
	d := resume.DialectOf(x.request.Path)
	if d == nil || !c.Primary || c.Metered || !x.candidates[0].Primary || len(x.candidates) < 2 || !x.plan.Route.Resume || !plan.FallsBackOn(x.plan.Route, backend.Lost) {
		return nil
	}
	return &resumption{exchange: x, transcript: resume.Transcript{Dialect: d}}
}

// observe takes an event into the transcript that the client gets.
func (r *resumption) observe(data []byte) {
	if r != nil {
		r.transcript.Observe(data)
	}
}

// observeAll takes the events into the transcript that are sent at once.
func (r *resumption) observeAll(events *wire.EventReader) {
	for {
		e, err := events.Next()
		if err != nil {
			return
		}
		r.transcript.Observe(e.Data)
	}
}

var errNoResume = errors.New("no other backend can continue the answer")

// resume writes the rest of a stream that broke. It returns errNoResume if it has written
// nothing; the caller has to tell the client then that the stream broke.
func (r *resumption) resume(w *attempt.ClientWriter) error {
	t := &r.transcript
	if r.tried || t.NotResumable != "" || t.Header.ID == "" || t.TextEnded && t.Finish == "" {
		return errNoResume
	}
	r.tried = true
	object := gjson.Parse(r.request.Body.Text())
	if resume.NotResumable(object) != "" { // checked only now: nearly all streams come to their end
		return errNoResume
	}
	limits, left := resume.ReduceMaxTokens(object, t.Tokens)
	switch {
	case t.Finish != "": // it was complete but for its end mark
		return r.writeEnd(w, r.known())
	case left == 0:
		if err := r.writeFinish(w, t.Dialect.OutOfTokens); err != nil {
			return err
		}
		return r.writeEnd(w, r.known())
	}
	more, ok := t.Dialect.ExtendRequest(object, t.Text.String())
	if !ok {
		return errNoResume
	}
	a, by := r.start(append(limits, more))
	if a == nil {
		return errNoResume
	}
	defer a.Close()
	r.rec.resumedBy, r.rec.reserved, r.rec.tokensBeforeResume = by, a.Reserved, t.Tokens
	if _, err := fmt.Fprintf(w, ": resumed by %s\n\n", r.rec.resumedBy); err != nil {
		return err
	}
	return r.relay(w.For(a), a)
}

// start asks the other candidates, in their order, for the rest of the stream, and returns
// the one that gives it; nil = none does.
func (r *resumption) start(changes []wire.Edit) (a *attempt.Answer, by string) {
	next := r.withBody(changes)
	if next == nil {
		return nil, ""
	}
	for _, c := range r.candidates[1:] {
		if c.Metered && r.mayHaveBilled() {
			continue
		}
		a, failed := attempt.Start(r.ctx, r.params(c, next, backend.Alternative{}))
		if failed == nil && !a.IsStream() {
			failed = a.Discard(c.Name, "answered without a stream")
		}
		if failed == nil {
			return a, c.Name
		}
		r.rec.addDetail(failed.LogMessage())
		r.failed(c, failed)
	}
	return nil, ""
}

// relay writes the continuation as events of the stream that broke.
func (r *resumption) relay(w *attempt.ClientWriter, a *attempt.Answer) error {
	a.Watch()
	defer a.StopWatching()
	c := continuation{resumption: r, client: w, overlap: resume.NewOverlapFilter(r.transcript.Text.String())}
	held := a.HeldEvents()
	for {
		e, err := held.Next()
		var m wire.EventInfo
		if err == nil {
			m = r.request.Dialect.InspectEvent(e, false)
		} else if e, m, err = a.Next(r.request.Dialect); errors.Is(err, io.EOF) && a.Complete(r.request) {
			m.Ended, err = true, nil
		}
		if err != nil {
			return fmt.Errorf("%w: its continuation broke as well", errTruncated)
		}
		c.used.Merge(m.Usage)
		r.rec.usageOfResume = c.used
		switch {
		case m.Failed != "":
			return fmt.Errorf("%w: its continuation failed as well", errTruncated)
		case m.Ended && !c.finished:
			return fmt.Errorf("%w: its continuation has no end", errTruncated)
		case m.Ended:
			a.Lease.Release(backend.WithAnswer)
			return r.writeEnd(w, r.sum(c.used))
		}
		if err := c.pass(e); err != nil {
			return err
		}
	}
}

// continuation is the second part of a stream.
type continuation struct {
	*resumption

	client   *attempt.ClientWriter
	overlap  resume.OverlapFilter // removes what the backend repeats of the first part
	used     wire.Usage
	finished bool // its finish reason was written
}

// pass writes an event of the second backend as one of the first.
func (c *continuation) pass(e wire.Event) error {
	if len(e.Data) == 0 {
		return nil
	}
	text, finish, notResumable := c.transcript.Dialect.Continuation(gjson.ParseBytes(e.Data))
	if notResumable != "" {
		return fmt.Errorf("%w: %s", errTruncated, notResumable)
	}
	if text = c.overlap.Filter(text); finish != "" {
		text += c.overlap.Flush(finish)
	}
	if text != "" {
		c.rec.seen++
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

// writeEnd ends the stream as its dialect does.
func (r *resumption) writeEnd(w *attempt.ClientWriter, u wire.Usage) error {
	r.rec.usage.Merge(u)
	r.rec.conclude()
	includeUsage := gjson.GetBytes(r.request.Body.Raw, "stream_options.include_usage").Bool()
	return w.Send(r.transcript.Dialect.End(&r.transcript, u, includeUsage))
}

// known is the usage of a stream that needs no continuation: what its events reported,
// which includes tokens without a text.
func (r *resumption) known() wire.Usage {
	u := wire.Usage{Completion: &r.transcript.Tokens}
	u.Merge(r.rec.usage)
	return u
}

// sum adds the tokens of both parts. The continuation's prompt had the first part in it.
func (r *resumption) sum(second wire.Usage) wire.Usage {
	completion := r.transcript.Tokens
	if second.Completion != nil {
		completion += *second.Completion
	}
	u := wire.Usage{Completion: &completion}
	if second.Prompt != nil {
		u.Prompt = new(max(*second.Prompt-r.transcript.Tokens, 0))
	}
	return u
}
