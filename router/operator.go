package router

import (
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/router/wire"
)

// A fallback's key, credit and model name are its operator's matter. Where it
// complains of them, the caller has done nothing wrong, and may come again when the
// primary is back.

// ofOperator says whether a call ended with such a complaint of its fallback.
func ofOperator(p plan, failures []*failure) bool {
	last := failures[len(failures)-1]
	if len(failures) == 1 && p.steps[0].first || last.resp == nil {
		return false
	}
	return slices.Contains([]int{
		http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
	}, last.resp.StatusCode)
}

// onItsWay are the reasons of a server that is back soon.
var onItsWay = []Reason{Starting, Loading, Restarting}

// operatorsFault is what the caller is told then: both causes, and when to come
// again, where somebody knows.
func operatorsFault(p plan, failures []*failure) wire.Error {
	last := failures[len(failures)-1]
	e := wire.Error{
		Status: http.StatusBadGateway, Type: wire.TypeServer, Code: wire.CodeBothFailed,
		Message: p.detail + "; then " + last.wordsForCaller(), RetryAfter: last.retryAfter,
	}
	primary := p.reason // it was passed over
	if len(failures) == 2 {
		first := failures[0]
		e.Message = first.wordsForCaller() + "; then " + last.wordsForCaller()
		e.RetryAfter = max(e.RetryAfter, first.retryAfter)
		if primary = first.reason; !slices.Contains(onItsWay, primary) { // it may have ended since
			primary = p.steps[0].backend.availability().reason
		}
	}
	// Whoever failed or was drained waits for a person.
	if slices.Contains(onItsWay, primary) || primary == Degraded || primary == Draining {
		e.RetryAfter = max(e.RetryAfter, wire.RetrySoon)
	}
	if e.RetryAfter > 0 {
		e.Status = http.StatusServiceUnavailable
	}
	return e
}
