package plan

import (
	"net/http"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckBudget skips the candidates that a budget does not allow to be asked. The others
// cost nothing.
func (p *Plan) CheckBudget(r *request.Request) {
	last := "" // why the last one is skipped
	p.skip(func(c *Candidate) string {
		c.Estimate = p.Accounting.Estimate(r, c.priced())
		over := p.Accounting.Check(r, c.priced())
		if over == nil {
			return ""
		}
		p.OverBudget = over
		last = c.Name + " is not asked: " + over.String()
		if c.Primary {
			p.Reason, p.Detail = backend.Failed, last
		}
		return last
	})
	if p.waits() || p.OverBudget == nil || firstKept(p.Candidates) != nil {
		return
	}
	if p.Detail == last { // the error says it
		p.Reason, p.Detail = "", ""
	}
	p.Refuse = p.OverBudgetError(p.Detail)
}

// OverBudgetError is the error of a call that only a metered backend could answer. cause
// is why no other backend did; "" = the route has none.
func (p *Plan) OverBudgetError(cause string) wire.Error {
	over := p.OverBudget
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
func (p *Plan) localReturnsSoon() bool {
	if p.Server == nil {
		return false
	}
	switch now := p.Server.Availability(); now.Reason {
	case "", backend.Starting, backend.Loading, backend.Restarting, backend.Degraded, backend.Draining:
		return true
	default:
		return false
	}
}

// IsPaid says whether a call that failed would go to a metered backend if the budget
// allowed it. If the call itself is wrong, the client is told that instead, and a full
// queue is worth another try.
func (p *Plan) IsPaid(last *attempt.Failure) bool {
	switch {
	case last.OverBudget != nil:
		return true
	case p.WaitFor != "" && last.Backend == p.wait.Name: // when the server is back, it costs nothing
		return false
	}
	invalid := last.Reason == backend.Status && last.Response != nil && last.Response.Status < 500 &&
		last.Response.Status != http.StatusRequestTimeout && last.Response.Status != http.StatusTooManyRequests
	return last.Reason != backend.Saturated && !invalid && FallsBackOn(p.Route, last.Reason)
}
