package router

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/outcome"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// fail answers a call after the attempts at all candidates have failed.
func (x *exchange) fail() {
	if x.isCancelled() {
		x.rec.Cancel()
		x.reject(cancelledError)
		return
	}
	if x.plan.NeedsLocalField && !x.failures[len(x.failures)-1].InvalidRequest() {
		x.rec.Reason = backend.Unsupported
	}
	answer := outcome.Of(x.unanswered())
	if answer.Forward != nil {
		x.forwardError(answer)
		return
	}
	x.reject(answer.Error)
}

// unanswered returns the call as package outcome sees it.
func (x *exchange) unanswered() outcome.Call {
	p, last := &x.plan, x.failures[len(x.failures)-1]
	call := outcome.Call{Skipped: p.WhyNoFallback()}
	for _, f := range x.failures {
		call.Causes = append(call.Causes, x.cause(f))
	}
	primaryAsked := slices.ContainsFunc(call.Causes, func(c outcome.Cause) bool { return c.Primary })
	if bypassed := p.Bypassed(); bypassed != nil && !primaryAsked {
		call.Causes = slices.Insert(call.Causes, 0, outcome.Cause{Failure: bypassed, Primary: true, Bypassed: true})
	}
	if p.OverBudget == nil {
		p.OverBudget = last.OverBudget
	}
	if p.OverBudget != nil && p.IsPaid(last) {
		call.OverBudget, call.Reserved = p.OverBudgetError(), p.OverBudget.Temporary()
	}
	return call
}

// cause returns why an attempt failed. A server whose process has exited since says when it
// is back.
func (x *exchange) cause(f *attempt.Failure) outcome.Cause {
	cause := outcome.Cause{Failure: &f.Failure}
	i := slices.IndexFunc(x.candidates, func(c plan.Candidate) bool { return c.Name == f.Backend })
	if i < 0 {
		return cause
	}
	c := x.candidates[i]
	cause.Primary = c.Primary
	if now := c.Backend.Availability(); c.Local && f.Response == nil && now.Reason != "" {
		updated := f.Failure
		updated.RetryAfter, updated.NeedsOperator = now.RetryAfter, now.NeedsOperator
		cause.Failure = &updated
	}
	return cause
}

// forwardError sends a backend's own error to the client.
func (x *exchange) forwardError(answer outcome.Answer) {
	p, h, f := &x.plan, x.w.Header(), answer.Forward
	backend.CopyAnswerHeaders(h, f.Response.Header)
	for name, values := range h {
		clean := make([]string, len(values)) // a copy, since values belongs to the failure
		for i, value := range values {
			clean[i] = p.Redact(value)
		}
		h[name] = clean
	}
	h.Set(wire.HeaderBackend, f.Backend)
	x.addQueueHeader()
	if h.Get(wire.HeaderShouldRetry) == "" || answer.Note != "" {
		wire.SetShouldRetry(h, answer.Retry, f.RetryAfter)
	}
	x.rec.Backend, x.rec.Status = f.Backend, f.Response.Status
	if x.explainForwarded(answer); x.rec.Reason != "" {
		h.Set(wire.HeaderReason, string(x.rec.Reason))
	}
	if x.request.FromBox != "" { // the other box decides by it whether the call moves on
		h.Set(wire.HeaderReason, string(f.Reason))
	}
	body := answer.Body()
	if d, ok := x.request.Dialect.(wire.ErrorCompleter); ok {
		body = d.CompleteError(f.Response.Status, body)
	}
	if x.early != nil {
		x.early.Fail(x.request.Dialect, answer.AsError(p.Redact))
	}
	x.w.WriteHeader(f.Response.Status)
	_, _ = x.w.Write([]byte(p.Redact(string(body)))) // an error means that the client closed the connection
}

// explainForwarded completes the record of a call that gets a backend's own error: why the primary
// did not answer.
func (x *exchange) explainForwarded(answer outcome.Answer) {
	p, rec := &x.plan, &x.rec
	switch {
	case answer.Note != "":
	case !x.candidates[0].Primary:
		rec.Reason, rec.Detail = p.Reason, p.Detail
	case p.NeedsLocalField && !answer.Forward.InvalidRequest():
		rec.Detail += "; " + p.NoFallback()
	default: // the primary has answered
		rec.Reason = ""
	}
}

// reject answers a call with an error of llmsup's own.
func (x *exchange) reject(e wire.Error) {
	x.rec.Status, x.rec.Code = e.Status, e.Code
	if x.early != nil {
		x.early.Fail(x.request.Dialect, e)
	}
	x.addQueueHeader()
	if x.request.FromBox != "" && x.rec.Reason == "" {
		x.rec.Reason = x.reasonForBox(e)
	}
	x.addWaitHeader()
	if x.rec.Reason != "" {
		x.w.Header().Set(wire.HeaderReason, string(x.rec.Reason))
	}
	wire.WriteError(x.w, x.request.Dialect, e)
}

// reasonForBox returns the reason of an error that has none, for the box that sent the call: by it
// that box decides whether the call moves on. An invalid call would fail at other boxes, too.
func (x *exchange) reasonForBox(e wire.Error) backend.Reason {
	if e.Status >= http.StatusInternalServerError || x.isCancelled() {
		return backend.Failed
	}
	return backend.Unsupported
}

// addQueueHeader adds the call's place in a queue, if it had one.
func (x *exchange) addQueueHeader() {
	if place := x.rec.Wait.Place; place > 0 {
		x.w.Header().Set(wire.HeaderQueue, strconv.Itoa(place))
	}
}
