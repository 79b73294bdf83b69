package router

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// refusal is the answer of a box that was asked whether the call can begin, and where it may wait.
type refusal struct {
	box  plan.Candidate
	time time.Duration // expected until the first token, if it waits there
}

// tryEach gives the call to one candidate after another, beginning with an index, until give reports
// that it is done. First come the boxes that are asked whether the call can begin.
func (x *exchange) tryEach(i int, give func(i int) (done bool)) (done bool) {
	for ; ; i++ {
		if i == len(x.candidates) || !x.candidates[i].MaxWait.Limited {
			i = x.waitWhereRefused(i)
		}
		if i == len(x.candidates) || give(i) {
			return i < len(x.candidates)
		}
	}
}

// waitWhereRefused makes the boxes that refused the next candidates, the one with the shortest wait first, or one that loads the
// model sooner. next is the index of the first candidate that was not asked, before and after.
func (x *exchange) waitWhereRefused(next int) int {
	if len(x.refusals) == 0 {
		return next
	}
	slices.SortStableFunc(x.refusals, func(a, b refusal) int { return cmp.Compare(a.time, b.time) })
	failed := slices.DeleteFunc(slices.Clone(x.candidates[:next]), func(c plan.Candidate) bool {
		return slices.ContainsFunc(x.refusals, func(r refusal) bool { return r.box.Name == c.Name })
	})
	var wait []plan.Candidate
	if load := x.plan.ToLoad; load != nil && load.Rest < x.refusals[0].time {
		c := *load
		x.plan.ToLoad = nil                                  // it is given the call once
		c.MaxWait = pick.AtMost(x.refusals[0].time - c.Load) // its queue may have grown since it was announced
		wait = append(wait, c)
		if !c.OtherBox {
			x.plan.Reason, x.plan.Detail = "", "" // the primary is not bypassed
		}
	}
	for _, r := range x.refusals {
		r.box.MaxWait.Limited = false
		wait = append(wait, r.box)
	}
	x.candidates, x.refusals = slices.Concat(failed, wait, x.candidates[next:]), nil
	return len(failed)
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
	r := refusal{box: c, time: x.plan.Route.Timeout} // its queue is full, or it accepts no calls yet
	if f.MayWait {
		r.time = f.ExpectedWait + c.Rest
	}
	x.refusals = append(x.refusals, r)
	return true
}

// addWaitHeader adds how long the call would wait here, if another box has asked.
func (x *exchange) addWaitHeader() {
	if n := len(x.failures); n > 0 && x.failures[n-1].MayWait && x.request.FromBox != "" {
		x.rec.refused = true
		x.w.Header().Set(wire.HeaderWait, strconv.FormatInt(x.failures[n-1].ExpectedWait.Milliseconds(), 10))
	}
}
