package plan

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/llmsup/llmsup/router/pick"
)

// Refusal is the answer of a box that was asked whether a call can begin, and where it may wait.
type Refusal struct {
	Box  Candidate
	Time time.Duration // expected until the first token, if the call waits there
}

// UnknownTime is the Time of a box that has not said how long a call would wait there.
const UnknownTime = time.Duration(math.MaxInt64)

// waitUnit is to what expected waits are rounded: they become part of a timeout, which messages name.
const waitUnit = 100 * time.Millisecond

// WaitWhereRefused makes the boxes that have refused a call the next candidates, the one where it
// waits the shortest time first. The box that would load the model comes before them if it takes
// less time, and, if a fallback follows, less than the route's timeout. next is the index of the
// first candidate that was not asked, and first is that index in the result.
func (p *Plan) WaitWhereRefused(all []Candidate, next int, refusals []Refusal) (candidates []Candidate, first int) {
	if len(refusals) == 0 {
		return all, next
	}
	slices.SortStableFunc(refusals, func(a, b Refusal) int { return cmp.Compare(a.Time, b.Time) })
	boxes := make([]Candidate, 0, 1+len(refusals))
	limit := refusals[0].Time
	if HaveFallback(all[next:]) {
		limit = min(limit, p.Route.Timeout)
	}
	if p.ToLoad != nil && p.ToLoad.Rest < limit {
		c := *p.ToLoad
		p.ToLoad = nil                                     // it is given the call once
		c.MaxWait = pick.AtMost(refusals[0].Time - c.Load) // its queue may have grown since it was announced
		boxes = append(boxes, c)
		if !c.OtherBox {
			p.Reason, p.Detail = "", "" // the primary is not bypassed
		}
	}
	for _, r := range refusals {
		r.Box.MaxWait.Limited = false
		if r.Time != UnknownTime {
			r.Box.Wait = r.Time.Round(waitUnit)
		}
		boxes = append(boxes, r.Box)
	}
	return Insert(all, next, boxes)
}

// Insert makes boxes the next candidates, instead of earlier ones with their names. next is the index
// of the first candidate that was not asked, before and after.
func Insert(all []Candidate, next int, boxes []Candidate) (candidates []Candidate, first int) {
	candidates = slices.DeleteFunc(slices.Clone(all[:next]), func(c Candidate) bool {
		return slices.ContainsFunc(boxes, func(box Candidate) bool { return box.Name == c.Name })
	})
	first = len(candidates)
	return slices.Concat(candidates, boxes, all[next:]), first
}
