package router

import (
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// resumeWhole has a candidate continue the answer of a call without a stream that broke
// off in the middle, and answers the call with both parts. It returns false if that can't
// be done; the whole call is given to the candidate then.
func (x *exchange) resumeWhole(c plan.Candidate) (done bool) {
	d, part := resume.DialectOf(x.request.Path), x.failures[len(x.failures)-1].Partial
	next := x.continuation(d, part)
	if next == nil {
		return false
	}
	a, failed := attempt.Start(x.ctx, x.params(c, next, backend.Alternative{}))
	if failed == nil {
		joined, ok := d.Join(string(a.Held), *part)
		if !a.IsStream() && a.Rest == nil && ok {
			x.deliverJoined(c, a, joined, part.Tokens)
			return true
		}
		failed = a.Discard(c.Name, "could not go on with the answer")
	}
	x.failed(c, failed)
	last := &x.past[len(x.past)-1]
	last.Invalid, last.LocalField = false, false // the continuation was rejected, and not the call
	if last.MayHaveBilled() {
		x.failures = append(x.failures, failed)
		x.rec.note(failed)
	}
	return false
}

// continuation returns the call that asks for the rest of an answer; nil = there is none.
func (x *exchange) continuation(d *resume.Dialect, part *resume.PartialAnswer) *request.Request {
	// A beginning that is too short for its repetition to be found, which is what
	// llama-server answers with, may as well be generated again: nothing of it was sent.
	if part == nil || len(part.Text) < resume.MinOverlap || d == nil || !x.plan.Route.Resume {
		return nil
	}
	object := gjson.Parse(x.request.Body.Text())
	if resume.NotResumable(object) != "" {
		return nil
	}
	limits, left := resume.ReduceMaxTokens(object, part.Tokens)
	more, ok := d.ExtendRequest(object, part.Text)
	if !ok || left == 0 {
		return nil
	}
	return x.withBody(append(limits, more))
}

// withBody returns the call with changes in its body; nil = they make it invalid.
func (x *exchange) withBody(changes []wire.Edit) *request.Request {
	next := *x.request
	var err error
	if next.Body, err = request.ParseBodyFor(x.request.Body.Fields, []byte(wire.Apply(x.request.Body.Text(), changes))); err != nil {
		return nil
	}
	return &next
}

// deliverJoined answers the call with both parts. tokens are those of the first part.
func (x *exchange) deliverJoined(c plan.Candidate, a *attempt.Answer, joined string, tokens int64) {
	rec := &x.rec
	rec.backend, rec.model, rec.resumedBy = c.Name, c.Model, c.Name
	rec.local, rec.tokensBeforeResume = x.plan.Server != nil, tokens
	a.Held = []byte(joined)
	rec.usageOfResume, a.Usage = a.Usage, x.request.Dialect.InspectBody(a.Held).Usage
	x.deliver(a, nil)
}
