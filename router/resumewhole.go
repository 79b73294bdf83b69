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

// resumeWhole makes a candidate continue the truncated answer of a non-streaming call, and
// answers the call with both parts. It returns false if that is not possible; then the
// candidate gets the whole call.
func (x *exchange) resumeWhole(c plan.Candidate) (done bool) {
	d, part := resume.DialectOf(x.request.Path), x.failures[len(x.failures)-1].Partial
	next := x.continuationRequest(d, part)
	if next == nil {
		return false
	}
	a, failed := attempt.Start(x.ctx, x.params(c, next, backend.Alternative{}))
	if failed == nil {
		joined, ok := d.Join(string(a.Held), *part)
		if !a.IsStream() && a.Rest == nil && ok {
			x.commitJoined(c, a, joined, part.Tokens)
			return true
		}
		failed = a.Discard(c.Name, "could not continue the answer")
	}
	x.recordFailure(c, failed)
	last := &x.attempts[len(x.attempts)-1]
	last.Invalid, last.LocalField = false, false // the backend rejected the continuation, not the call
	if last.MayHaveBilled() {
		x.failures = append(x.failures, failed)
		x.rec.addFailure(failed)
	}
	return false
}

// continuationRequest returns the request for the rest of an answer; nil = the answer cannot be
// continued.
func (x *exchange) continuationRequest(d *resume.Dialect, part *resume.PartialAnswer) *request.Request {
	// llama-server repeats the beginning in its continuation. If the beginning is too
	// short for the repetition to be found, the whole answer is generated again: nothing
	// of it was sent.
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

// withBody returns the request with changes in its body; nil = they make it invalid.
func (x *exchange) withBody(changes []wire.Edit) *request.Request {
	next := *x.request
	var err error
	if next.Body, err = request.ParseBodyFor(x.request.Body.Fields, []byte(wire.Apply(x.request.Body.Text(), changes))); err != nil {
		return nil
	}
	return &next
}

// commitJoined answers the call with both parts. tokens is the number of the first part's tokens.
func (x *exchange) commitJoined(c plan.Candidate, a *attempt.Answer, joined string, tokens int64) {
	rec := &x.rec
	rec.backend, rec.model, rec.resumedBy = c.Name, c.Model, c.Name
	rec.local, rec.tokensBeforeResume = x.plan.Server != nil, tokens
	a.Held = []byte(joined)
	rec.usageOfResume, a.Usage = a.Usage, x.request.Dialect.InspectBody(a.Held).Usage
	x.commit(a, nil)
}
