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
// answers the call with both parts. mayTry is whether the candidate gets the whole call instead: not
// if it is a box that was asked, and refuses.
func (x *exchange) resumeWhole(i int) (done, mayTry bool) {
	c, d, part := x.candidates[i], resume.DialectOf(x.request.Path), x.failures[len(x.failures)-1].Partial
	// llama-server repeats the beginning in its continuation. If the beginning is too
	// short for the repetition to be found, the whole answer is generated again: nothing
	// of it was sent.
	if part == nil || len(part.Text) < resume.MinOverlap || d == nil || !c.Primary && !x.plan.Route.Resume {
		return false, true
	}
	a, failed := x.continueAt(i, d, part.Text, part.Tokens)
	switch {
	case a != nil:
		joined, ok := d.Join(string(a.Held), *part)
		if !a.IsStream() && a.Rest == nil && ok {
			x.commitJoined(c, a, joined, part.Tokens)
			return true, false
		}
		failed = a.Discard(c.Name, "could not continue the answer")
	case failed == nil:
		return false, true
	case x.mayWaitAt(c, failed):
		return false, false
	}
	x.recordFailure(c, failed)
	last := &x.attempts[len(x.attempts)-1]
	last.Invalid, last.LocalField, last.OverContext = false, false, 0 // the backend rejected the continuation, not the call
	if last.MayHaveBilled() {
		x.failures = append(x.failures, failed)
		x.rec.AddFailure(failed)
	}
	return false, x.mayTry(c)
}

// continueAt has a candidate continue an answer of which another backend has generated text, with so
// many tokens. It returns nil, nil if the candidate cannot.
func (x *exchange) continueAt(i int, d *resume.Dialect, text string, tokens int64) (*attempt.Answer, *attempt.Failure) {
	c, other := x.candidates[i], backend.Alternative{}
	next := x.continuationRequest(c, d, text, tokens)
	if next == nil {
		return nil, nil
	}
	if c.Primary {
		other = x.alternative(i)
	}
	x.rec.Call.Try(c.Name, c.Model, c.Metered, backend.Lost)
	return attempt.Start(x.ctx, x.params(i, next, other))
}

// continuationRequest returns the request to a candidate for the rest of an answer of which
// another backend has generated text, with so many tokens; nil = the candidate cannot
// continue it.
func (x *exchange) continuationRequest(c plan.Candidate, d *resume.Dialect, text string, tokens int64) *request.Request {
	next := *c.RequestOf(x.request)
	object := gjson.Parse(next.Body.Text())
	if resume.NotResumable(object) != "" {
		return nil
	}
	limits, left := resume.ReduceMaxTokens(object, tokens)
	more, ok := d.ExtendRequest(object, text)
	if !ok || left == 0 {
		return nil
	}
	var err error
	if next.Body, err = next.Body.Replace([]byte(wire.Apply(next.Body.Text(), append(limits, more)))); err != nil {
		return nil // the changes make it invalid
	}
	return &next
}

// commitJoined answers the call with both parts. tokens is the number of the first part's tokens.
func (x *exchange) commitJoined(c plan.Candidate, a *attempt.Answer, joined string, tokens int64) {
	rec := &x.rec
	rec.Backend, rec.Model, rec.Resumed.By, rec.Resumed.Locally = c.Name, c.Model, c.Name, c.Local
	rec.Local, rec.Resumed.FirstTokens = x.plan.Server != nil || x.plan.LocalPrimary, tokens
	a.Held = []byte(joined)
	rec.Resumed.Usage, a.Usage = a.Usage, x.request.Dialect.InspectBody(a.Held).Usage
	x.commit(a, nil)
}
