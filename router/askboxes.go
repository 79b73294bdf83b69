package router

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// refusal is the answer of a box that was asked whether the call can begin, and where it may wait.
type refusal struct {
	box  string        // the candidate's name
	time time.Duration // expected until the first token, if it waits there
}

// askBoxes gives the call to the first box where it can begin. If there is none, the boxes where
// the call may wait become the next candidates, the one where it waits the shortest time first. A
// box that has to load the model comes before them if it takes less time. next is the index of the
// first candidate that has not been tried.
func (x *exchange) askBoxes() (done bool, next int) {
	if x.plan.Hop != nil { // the other box has asked
		return false, 0
	}
	for ; next < len(x.candidates) && x.candidates[next].MaxWait.Limited; next++ {
		if x.next(next) {
			return true, next
		}
	}
	slices.SortStableFunc(x.refusals, func(a, b refusal) int { return cmp.Compare(a.time, b.time) })
	asked := x.candidates[:next]
	var failed, wait []plan.Candidate
	if load := x.plan.ToLoad; load != nil && len(x.refusals) > 0 && load.Rest < x.refusals[0].time {
		wait = append(wait, *load)
		if !load.OtherBox {
			x.plan.Reason, x.plan.Detail = "", "" // the primary is not bypassed
		}
	}
	for _, r := range x.refusals {
		c := asked[slices.IndexFunc(asked, func(c plan.Candidate) bool { return c.Name == r.box })]
		c.MaxWait.Limited = false
		wait = append(wait, c)
	}
	for _, c := range asked {
		if !slices.ContainsFunc(wait, func(w plan.Candidate) bool { return w.Name == c.Name }) {
			failed = append(failed, c)
		}
	}
	x.candidates = slices.Concat(failed, wait, x.candidates[next:])
	return false, len(failed)
}

// mayWaitAt notes that a box which was asked has not let the call begin, and that the call may
// wait there.
func (x *exchange) mayWaitAt(c plan.Candidate, f *attempt.Failure) bool {
	if x.plan.Hop != nil || !c.MaxWait.Limited || x.ctx.Err() != nil || f.Next != backend.Retry {
		return false
	}
	r := refusal{box: c.Name, time: x.plan.Route.Timeout} // its queue is full, or it accepts no calls yet
	if f.MayWait {
		r.time = f.ExpectedWait + c.Rest
	}
	x.refusals = append(x.refusals, r)
	return true
}

// addWaitHeader adds how long the call would wait here, if another box has asked.
func (x *exchange) addWaitHeader() {
	if n := len(x.failures); n > 0 && x.failures[n-1].MayWait && x.request.FromBox != "" {
		x.w.Header().Set(wire.HeaderWait, strconv.FormatInt(x.failures[n-1].ExpectedWait.Milliseconds(), 10))
	}
}
