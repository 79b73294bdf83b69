package router

import (
	"net/http"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// checkBudget skips the candidates that a budget does not allow to be asked. The others
// cost nothing.
func (p *plan) checkBudget(r *request.Request) {
	primaryOver := false
	p.skip(func(c *candidate) string {
		c.estimate = p.accounting.Estimate(r, c.priced())
		over := p.accounting.Check(r, c.priced())
		if over == nil {
			return ""
		}
		p.overBudget = over
		why := c.Name + " is not asked: " + over.String()
		if c.primary {
			p.reason, p.detail, primaryOver = backend.Failed, why, true
		}
		return why
	})
	if p.waits() || p.overBudget == nil || len(kept(p.candidates)) > 0 {
		return
	}
	if primaryOver {
		p.reason, p.detail = "", ""
	}
	p.refuse = p.overBudgetError(p.detail)
}

// overBudgetError is the error of a call that only a metered backend could answer. cause
// is why no other backend did; "" = the route has none.
func (p *plan) overBudgetError(cause string) wire.Error {
	over := p.overBudget
	message := over.String()
	if cause != "" {
		message = cause + "; " + message
	}
	e := wire.Error{
		Status: http.StatusTooManyRequests, Type: wire.TypeQuota, Code: wire.CodeOverBudget, Message: message,
		RetryAfter: int(over.RetryAfter.Seconds()) + 1,
	}
	if over.OnlyByReservations() || p.localReturnsSoon() {
		e.RetryAfter = wire.RetrySoon
	}
	return e
}

// localReturnsSoon says whether the route's server answers calls now, or will soon.
func (p *plan) localReturnsSoon() bool {
	if p.server == nil {
		return false
	}
	switch now := p.server.Availability(); now.Reason {
	case "", backend.Starting, backend.Loading, backend.Restarting, backend.Degraded, backend.Draining:
		return true
	default:
		return false
	}
}

// isPaid says whether a call that failed would go to a metered backend if the budget
// allowed it. If the call itself is wrong, the client is told that instead, and a full
// queue is worth another try.
func (p *plan) isPaid(last *attempt.Failure) bool {
	switch {
	case last.OverBudget != nil:
		return true
	case p.waitFor != "" && last.Backend == p.wait.Name: // when the server is back, it costs nothing
		return false
	}
	invalid := last.Reason == backend.Status && last.Response != nil && last.Response.Status < 500 &&
		last.Response.Status != http.StatusRequestTimeout && last.Response.Status != http.StatusTooManyRequests
	return last.Reason != backend.Saturated && !invalid && fallsBackOn(p.route, last.Reason)
}
