package pick

import (
	"slices"
	"time"
)

// NoLimit is the patience of a call that waits as long as its route lets it.
const NoLimit time.Duration = -1

// Patience returns how long a call may wait in the queue of each box of its order; NoLimit =
// as long as it has. States are a second old, but a box knows its own queue: it refuses a call
// that would wait longer there, which then moves on. The first boxes are to begin at once, the
// later ones sooner than the own box would, and the home box before another one would have
// processed what the home has cached. That costs a round trip for each box that refuses.
func Patience(boxes []Box, c Call, order []int) []time.Duration {
	limits := make([]time.Duration, len(order))
	homeBox := home(boxes, &c)
	reference, other := alternative(boxes, order)
	limited := min(maxHops, len(order)-1)
	for at, i := range order {
		switch b := &boxes[i]; {
		case b.Own || at >= limited:
			limits[at] = NoLimit
		case i == homeBox:
			limits[at] = max(reference+other.process(c.PromptTokens)-b.process(c.PromptTokens-c.EarlierTokens), 0)
		default:
			limits[at] = reference * time.Duration(at) / time.Duration(limited)
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
