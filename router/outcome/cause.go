package outcome

import (
	"net/http"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Cause is why a backend of the route did not answer.
type Cause struct {
	*backend.Failure

	Primary  bool // it is the route's primary
	Bypassed bool // it was not asked
}

// Kind is what can make a call succeed that a backend has not answered.
type Kind int

// The kinds.
const (
	Temporary Kind = iota // time: the backend may answer the same call later
	Rejected              // another request: the backend rejected this one
	Operator              // the operator: a key, a credit, a model, a server or an address has to be changed
)

func (k Kind) String() string { return [...]string{"temporary", "rejected", "operator"}[k] }

// Kind returns the cause's kind. If the backend says itself whether a retry helps, that
// decides.
func (c Cause) Kind() Kind {
	if c.NeedsOperator {
		return Operator
	}
	if c.Response == nil {
		return Temporary
	}
	kind := kindOf(c.Response.Status)
	if c.Response.QuotaUsedUp() {
		kind = Operator
	}
	switch c.Response.Header.Get(wire.HeaderShouldRetry) {
	case "true":
		return Temporary
	case "false":
		if kind == Temporary {
			return Operator
		}
	}
	return kind
}

// kindOf returns the kind of a backend's error by its status.
func kindOf(status int) Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusNotImplemented, http.StatusLoopDetected:
		return Operator
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return Temporary
	}
	switch {
	case status < http.StatusBadRequest: // a redirect: the base URL is wrong
		return Operator
	case status < http.StatusInternalServerError:
		return Rejected
	}
	return Temporary
}

// wait is the number of seconds after which a backend whose failure is temporary may answer;
// 0 = unknown.
func (c Cause) wait() int {
	if c.RetryAfter > 0 {
		return c.RetryAfter
	}
	switch c.Reason {
	case backend.Unloaded, backend.Starting, backend.Loading, backend.Restarting, backend.Draining, backend.Degraded:
		return wire.RetrySoon
	default:
		return 0
	}
}
