package router

import (
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Only the operator can fix a fallback's key, credit or model name. If a fallback rejects a
// call because of one of them, the call is valid, and the client may send it again when the
// primary is back.

// isOperatorError reports whether a call ended with such an error of a fallback.
func (x *exchange) isOperatorError() bool {
	last := x.failures[len(x.failures)-1]
	if len(x.failures) == 1 && x.candidates[0].Primary || last.Response == nil {
		return false
	}
	return slices.Contains([]int{
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
	}, last.Response.Status)
}

// returnsSoon are the reasons of a server that will accept calls again soon.
var returnsSoon = []backend.Reason{backend.Starting, backend.Loading, backend.Restarting}

// operatorError returns the client's error then: all causes, and when to send the call
// again, if that is known.
func (x *exchange) operatorError() wire.Error {
	first, last := x.failures[0], x.failures[len(x.failures)-1]
	e := wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: wire.CodeBothFailed,
		Message: x.plan.Detail + "; then " + x.causes(), RetryAfter: last.RetryAfter,
	}
	primary := x.plan.Reason // why it was bypassed
	if len(x.failures) > 1 {
		e.Message = x.causes()
		e.RetryAfter = max(e.RetryAfter, first.RetryAfter)
		if primary = first.Reason; !slices.Contains(returnsSoon, primary) { // the primary may have exited since
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
