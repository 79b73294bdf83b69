package router

import (
	"strconv"
	"time"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// tryEach gives the call to one candidate after another, beginning with an index, until give reports
// that it is done. First come the boxes that are asked whether the call can begin. Before the fallbacks
// come those that have returned meanwhile. Once the route's time is over, the boxes come after the
// fallbacks, and each has all of it.
func (x *exchange) tryEach(i int, give func(i int) (done bool)) (done bool) {
	for ; ; i++ {
		if i == len(x.candidates) || !x.candidates[i].MaxWait.Limited {
			x.candidates, i = x.plan.WaitWhereRefused(x.candidates, i, x.refusals)
			x.refusals = nil
			if i > 0 && (i == len(x.candidates) || !x.candidates[i].Primary) {
				x.candidates, i = plan.Insert(x.candidates, i, x.plan.ReturnedBoxes(x.request, x.candidates, x.attempts))
			}
			if i > 0 && i == len(x.candidates) && x.plan.ToLoad != nil { // it is better than an error
				x.candidates, x.plan.ToLoad = append(x.candidates, *x.plan.ToLoad), nil
			}
		}
		if !x.deadline.IsZero() && !time.Now().Before(x.deadline) {
			plan.FallbacksFirst(x.candidates[i:])
		}
		if i == len(x.candidates) || give(i) {
			return i < len(x.candidates)
		}
	}
}

// mayWaitAt notes that a box which was asked has not let the call begin, and that the call may
// wait there.
func (x *exchange) mayWaitAt(c plan.Candidate, f *attempt.Failure) bool {
	if x.plan.Hop != nil || !c.MaxWait.Limited || x.ctx.Err() != nil || f.Next != backend.Retry || c.Load > 0 && !f.MayWait {
		return false
	}
	if c.Load > 0 { // the call waits a shorter time elsewhere
		return true
	}
	r := plan.Refusal{Box: c, Time: plan.UnknownTime} // its queue is full, or it accepts no calls yet
	if f.MayWait {
		r.Time = f.ExpectedWait + c.Rest
	}
	x.refusals = append(x.refusals, r)
	return true
}

// addWaitHeader adds how long the call would wait here, if another box has asked.
func (x *exchange) addWaitHeader() {
	if n := len(x.failures); n > 0 && x.failures[n-1].MayWait && x.request.FromBox != "" {
		x.rec.Refused = true
		x.w.Header().Set(wire.HeaderWait, strconv.FormatInt(x.failures[n-1].ExpectedWait.Milliseconds(), 10))
	}
}
