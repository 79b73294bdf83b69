package plan

import (
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// CheckBudget skips the candidates whose estimated cost exceeds a budget.
func (p *Plan) CheckBudget(r *request.Request) {
	last := "" // why the last candidate was skipped
	p.skip(func(c *Candidate) string {
		own := c.RequestOf(r)
		c.Estimate = p.Accounting.Estimate(own, c.accountingAttempt())
		over := p.Accounting.Check(own, c.accountingAttempt())
		if over == nil {
			return ""
		}
		p.OverBudget = over
		last = c.Name + " was skipped: " + over.String()
		if c.Primary {
			p.Reason, p.Detail, p.needsOperator = backend.Failed, last, !over.Temporary()
		}
		return last
	})
	if p.waitForServer() || p.OverBudget == nil || firstKept(p.Candidates) != nil {
		return
	}
	if p.Detail == last { // the error contains it
		p.Reason, p.Detail = "", ""
	}
	p.Rejection = p.OverBudgetError()
	if p.Detail != "" {
		p.Rejection.Message = p.Detail + "; " + p.Rejection.Message
	}
	if slices.ContainsFunc(p.Candidates, Candidate.returnsSoon) {
		p.Rejection.RetryAfter = wire.RetrySoon
	}
}

// creditSoon is the Retry-After while the box asks its fleet for credit, in seconds.
const creditSoon = 1

// OverBudgetError is the error of a call that only a metered backend could answer.
func (p *Plan) OverBudgetError() wire.Error {
	e := wire.Error{
		Status: http.StatusTooManyRequests, Type: wire.TypeQuota, Code: wire.CodeOverBudget, Message: p.OverBudget.String(),
		RetryAfter: int(p.OverBudget.RetryAfter.Seconds()) + 1,
	}
	switch {
	case p.OverBudget.Temporary() && p.OverBudget.Fleet:
		e.RetryAfter = creditSoon
	case p.OverBudget.Temporary():
		e.RetryAfter = wire.RetrySoon
	}
	return e
}

// returnsSoon reports whether a candidate is a local server that answers such calls now, or
// will soon.
func (c Candidate) returnsSoon() bool {
	if !c.Local || c.unsupported {
		return false
	}
	switch c.Backend.Availability().Reason {
	case "", backend.Unloaded, backend.Starting, backend.Loading, backend.Restarting, backend.Degraded, backend.Draining:
		return true
	default:
		return false
	}
}

// IsPaid reports whether a failed call would go to a metered backend if the budget allowed
// it. For an invalid call and for a full queue the client receives that error instead.
func (p *Plan) IsPaid(last *attempt.Failure) bool {
	switch {
	case last.OverBudget != nil:
		return true
	case p.WaitFor != "" && last.Backend == p.waitCandidate.Name: // once the server is back, the call costs nothing
		return false
	}
	invalid := last.Reason == backend.Status && last.Response != nil && last.Response.Status < 500 &&
		last.Response.Status != http.StatusRequestTimeout && last.Response.Status != http.StatusTooManyRequests
	return last.Reason != backend.Saturated && !invalid && FallsBackOn(p.Route, last.Reason)
}
