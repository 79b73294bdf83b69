package pick

import (
	"slices"
	"time"
)

// Box is a box that could answer a call, as this one knows it at one moment.
type Box struct {
	Name       string
	Own        bool          // it is the box that has received the call: its figures are exact, and there is no hop
	Slots      int           // concurrent calls; 0 = unknown
	Busy       int           // calls in slots, those included that this box has sent since the announcement
	Queued     int           // calls that wait
	Service    time.Duration // how long a call holds its slots on average; 0 = unknown
	Load       time.Duration // until its model is loaded; 0 = it is, as Order expects
	Loading    bool          // its model is being loaded
	PromptRate float64       // prompt tokens per second; 0 = unknown
}

const (
	// maxTried is how many boxes a call is tried at. Of a larger fleet, Order looks at so many,
	// nearly all of them random.
	maxTried = 16
	// choices is how many random boxes are compared.
	choices = 2
	// maxHops is how many other boxes are tried before a call waits at the own one.
	maxHops = 8
)

// Order returns the indices of the boxes in the order in which they are tried, at most
// maxTried. The first one is
//   - the home box of the call's conversation, unless the box below begins to answer sooner
//     although it has the prompt to process that the home has cached;
//   - else the own box, if it can begin at once;
//   - else the fastest of the own box and two random ones. If all boxes sent their calls to the
//     one that was the fastest a second ago, it would get them all.
//
// The others follow by their time to the first token: a box may have got more calls than it has
// announced, and refuse this one (Patience). The own box, if it has to wait itself, is behind
// maxHops of them. random returns a number from 0 to n-1. Order allocates its result only.
func Order(boxes []Box, c Call, random func(n int) int) []int {
	homeBox := home(boxes, &c)
	order := candidates(boxes, homeBox, random)
	if len(order) == 0 {
		return order
	}
	var times [maxTried]time.Duration // to the first token, by position in order
	for at, i := range order {
		times[at] = boxes[i].firstToken(&c, i == homeBox)
	}
	swap(order, &times, 0, first(boxes, &c, order, &times, homeBox))
	for at := 2; at < len(order); at++ { // an insertion sort of all but the first
		for k := at; k > 1 && times[k] < times[k-1]; k-- {
			swap(order, &times, k, k-1)
		}
	}
	if at := slices.IndexFunc(order, func(i int) bool { return boxes[i].Own }); at > 0 {
		own, to := order[at], min(maxHops, len(order)-1)
		if boxes[own].wait(0) == 0 {
			to = 1
		}
		order = slices.Insert(slices.Delete(order, at, at+1), to, own)
	}
	return order
}

func swap(order []int, times *[maxTried]time.Duration, a, b int) {
	order[a], order[b] = order[b], order[a]
	times[a], times[b] = times[b], times[a]
}

// candidates returns the boxes that Order looks at, in random order: all, or the own box, the
// home box and random ones.
func candidates(boxes []Box, homeBox int, random func(n int) int) []int {
	order := make([]int, 0, min(len(boxes), maxTried))
	if len(boxes) <= maxTried {
		for i := range boxes {
			order = append(order, i)
		}
	} else {
		if own := slices.IndexFunc(boxes, func(b Box) bool { return b.Own }); own >= 0 {
			order = append(order, own)
		}
		if homeBox >= 0 && !slices.Contains(order, homeBox) {
			order = append(order, homeBox)
		}
		for len(order) < maxTried {
			if i := random(len(boxes)); !slices.Contains(order, i) {
				order = append(order, i)
			}
		}
	}
	for i := range order {
		k := random(i + 1)
		order[i], order[k] = order[k], order[i]
	}
	return order
}

// first returns the position of the box that is tried first.
func first(boxes []Box, c *Call, order []int, times *[maxTried]time.Duration, homeBox int) int {
	fastest, random, atHome := -1, 0, -1
	for at, i := range order {
		if i == homeBox {
			atHome = at
		}
		switch b := &boxes[i]; {
		case b.Own && b.wait(0) == 0:
			fastest, random = at, choices
		case !b.Own && random == choices:
			continue
		case !b.Own:
			random++
		}
		if fastest < 0 || times[at] < times[fastest] {
			fastest = at
		}
	}
	if atHome >= 0 && times[atHome] <= times[fastest]+hop {
		return atHome
	}
	return fastest
}
