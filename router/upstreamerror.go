package router

import (
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// A fallback's key, credit and model name are a matter of its operator. If a fallback
// rejects a call because of them, the client has done nothing wrong, and may send the call
// again when the primary is back.

// isOperatorError says whether a call ended with such an error of a fallback.
func (x *exchange) isOperatorError() bool {
	last := x.failures[len(x.failures)-1]
	if len(x.failures) == 1 && x.candidates[0].Primary || last.Response == nil {
		return false
	}
	return slices.Contains([]int{
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
	}, last.Response.Status)
}

// returnsSoon are the reasons of a server that takes calls again soon.
var returnsSoon = []backend.Reason{backend.Starting, backend.Loading, backend.Restarting}

// operatorError is what the client gets then: all causes, and when to send the call again,
// if that is known.
func (x *exchange) operatorError() wire.Error {
	first, last := x.failures[0], x.failures[len(x.failures)-1]
	e := wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: wire.CodeBothFailed,
		Message: x.plan.Detail + "; then " + x.causes(), RetryAfter: last.RetryAfter,
	}
	primary := x.plan.Reason // it was passed over
	if len(x.failures) > 1 {
		e.Message = x.causes()
		e.RetryAfter = max(e.RetryAfter, first.RetryAfter)
		if primary = first.Reason; !slices.Contains(returnsSoon, primary) { // it may have ended since
			primary = x.candidates[0].Backend.Availability().Reason
		}
	}
	// A server that failed or was drained waits for an operator.
	if slices.Contains(returnsSoon, primary) || primary == backend.Degraded || primary == backend.Draining {
		e.RetryAfter = max(e.RetryAfter, wire.RetrySoon)
	}
	if e.RetryAfter > 0 {
		e.Status = http.StatusServiceUnavailable
	}
	return e
}
