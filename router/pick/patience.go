package pick

import (
	"slices"
	"time"
)

// MaxWait is the longest time that a call waits in the queue of a box: if it would be longer, the
// box refuses the call, which moves on. The zero value sets no limit.
type MaxWait struct {
	Limited bool
	Limit   time.Duration // if Limited; 0 = the call begins at once, or moves on
}

// AtMost returns a limited MaxWait.
func AtMost(d time.Duration) MaxWait { return MaxWait{Limited: true, Limit: d} }

// Or returns the limit; another one if it sets none.
func (m MaxWait) Or(other time.Duration) time.Duration {
	if m.Limited {
		return m.Limit
	}
	return other
}

// Patience returns how long a call may wait in the queue of each box of its order. States are a second old, but a box knows its own queue: it refuses a call
// that would wait longer there, which then moves on. The first boxes are to begin at once, the
// later ones sooner than the own box would, and the home box before another one would have
// processed what the home has cached. That costs a round trip for each box that refuses.
func Patience(boxes []Box, c Call, order []int) []MaxWait {
	limits := make([]MaxWait, len(order))
	homeBox := home(boxes, &c)
	reference, other := alternative(boxes, order)
	limited := min(maxHops, len(order)-1)
	for at, i := range order {
		switch b := &boxes[i]; {
		case b.Own || at >= limited: // without a limit
		case i == homeBox:
			limits[at] = AtMost(max(reference+other.process(c.PromptTokens)-b.process(c.PromptTokens-c.EarlierTokens), 0))
		default:
			limits[at] = AtMost(reference * time.Duration(at) / time.Duration(limited))
		}
	}
	return limits
}

// alternative returns the box where a call waits that others refuse, and for how long: the own
// box, or else the slowest one, with one call that has not been announced.
func alternative(boxes []Box, order []int) (wait time.Duration, other *Box) {
	if at := slices.IndexFunc(order, func(i int) bool { return boxes[i].Own }); at >= 0 {
		own := &boxes[order[at]]
		return own.wait(0), own
	}
	for _, i := range order[:min(maxHops+1, len(order))] {
		if w := boxes[i].wait(1); other == nil || w > wait {
			wait, other = w, &boxes[i]
		}
	}
	return wait, other
}
