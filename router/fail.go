package router

import (
	"io"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// fail answers a call after the attempts at all candidates have failed. If there was only
// one attempt, and the backend answered with an error, the client receives that error
// unchanged, unless it is a fallback's error that only the operator can fix.
func (x *exchange) fail() {
	p, first, last := &x.plan, x.failures[0], x.failures[len(x.failures)-1]
	if p.NeedsLocalField && !last.InvalidRequest() {
		x.rec.reason = backend.Unsupported
	}
	if p.OverBudget == nil {
		p.OverBudget = last.OverBudget
	}
	switch {
	case p.OverBudget != nil && p.IsPaid(last):
		cause := ""
		if first.OverBudget == nil {
			cause = first.ClientMessage()
		}
		x.reject(p.OverBudgetError(cause))
	case x.isOperatorError():
		x.reject(x.operatorError())
	case len(x.failures) == 1 && last.Response != nil && wire.IsErrorStatus(last.Response.Status):
		x.forwardError(last)
	default:
		x.reject(x.failureError())
	}
}

// forwardError sends a backend's own error to the client.
func (x *exchange) forwardError(f *attempt.Failure) {
	p, h := &x.plan, x.w.Header()
	backend.CopyAnswerHeaders(h, f.Response.Header)
	for name, values := range h {
		clean := make([]string, len(values)) // a copy, since values belongs to the failure
		for i, value := range values {
			clean[i] = p.Redact(value)
		}
		h[name] = clean
	}
	h.Set(wire.HeaderBackend, f.Backend)
	x.rec.backend, x.rec.status = f.Backend, f.Response.Status
	switch {
	case !x.candidates[0].Primary:
		h.Set(wire.HeaderReason, string(p.Reason))
		x.rec.reason, x.rec.detail = p.Reason, p.Detail
	case p.NeedsLocalField && !f.InvalidRequest():
		h.Set(wire.HeaderReason, string(x.rec.reason))
		x.rec.detail += "; " + p.NoFallback()
	default:
		x.rec.reason = ""
	}
	x.w.WriteHeader(f.Response.Status)
	_, _ = io.WriteString(x.w, p.Redact(string(f.Response.Body))) // an error means that the client closed the connection
}

// failureError returns the client's error after one or more failures.
func (x *exchange) failureError() wire.Error {
	last := x.failures[len(x.failures)-1]
	e := wire.Error{Status: last.HTTPStatus(), Type: wire.TypeServer, Code: string(last.Reason), RetryAfter: last.RetryAfter}
	if len(x.failures) > 1 {
		e.Code = wire.CodeBothFailed
		e.Message = x.causes()
	} else if e.Message = last.ClientMessage(); x.plan.Detail != "" {
		e.Message = x.plan.Detail + "; " + e.Message
	}
	e.Message = x.plan.AddFallbackReason(e.Message)
	switch {
	case last.Reason == backend.Saturated:
		e.Type = wire.TypeRateLimit
	case e.Status < http.StatusInternalServerError:
		e.Type = wire.TypeInvalid
	}
	return e
}

// causes returns the messages of all failures, for the client that made the call.
func (x *exchange) causes() string {
	causes := make([]string, len(x.failures))
	for i, f := range x.failures {
		causes[i] = f.ClientMessage()
	}
	return strings.Join(causes, "; then ")
}
