package router

import (
	"net/http"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// afford takes the backends out of a plan that a budget does not allow to be
// asked. What is left is whoever costs nothing.
func (p *plan) afford(c *request.Request) {
	kept := p.steps[:0]
	for _, s := range p.steps {
		s.estimate = p.accounting.Estimate(c, s.attempt())
		if over := p.accounting.Check(c, s.attempt()); over != nil {
			p.overBudget = over
			p.noSpare = s.backend.name() + " is not asked: " + over.String()
			if s.first {
				p.reason, p.detail = Failed, p.noSpare
			}
			continue
		}
		kept = append(kept, s)
	}
	p.steps = kept
	if !p.waits() && len(kept) == 0 && p.overBudget != nil {
		if p.detail == p.noSpare { // the primary's own price is why
			p.reason, p.detail = "", ""
		}
		p.refuse = p.overBudgetError(p.detail)
	}
}

// overBudgetError is the error of a call that could only be paid for. cause is why
// nobody answered who costs nothing; "" = there is nobody.
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
	if over.OnlyByReservations() || p.localIsNear() {
		e.RetryAfter = wire.RetrySoon
	}
	return e
}

// localIsNear says whether a server that costs nothing answers soon, or does now.
func (p *plan) localIsNear() bool {
	local := p.local
	if local == nil {
		return false
	}
	switch now := local.availability(); now.reason {
	case "", Starting, Loading, Restarting, Degraded, Draining:
		return true
	default:
		return false
	}
}

// wouldPay says whether a call that failed would go to somebody who takes money,
// were it not for the budget. What is wrong with the call itself is told instead,
// and a queue that is full is worth another try.
func (p *plan) wouldPay(last *failure) bool {
	switch {
	case last.overBudget != nil:
		return true
	case p.waitFor != "" && last.backend == p.wait.backend.name(): // when the server is back, it costs nothing
		return false
	}
	ownFault := last.reason == Status && last.resp != nil && last.resp.StatusCode < 500 &&
		last.resp.StatusCode != http.StatusRequestTimeout && last.resp.StatusCode != http.StatusTooManyRequests
	return last.reason != Saturated && !ownFault && mayFallBack(p.route, last.reason)
}
