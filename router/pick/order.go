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
	Load       time.Duration // until its model is loaded; 0 = it is
	PromptRate float64       // prompt tokens per second; 0 = unknown
}

const (
	// maxTried is how many boxes a call is tried at. Of a larger fleet, Order looks at so many,
	// most of them random.
	maxTried = 16
	// hop is the time that another box adds: the connections are open.
	hop = 2 * time.Millisecond
	// What is assumed of a box that has not announced it.
	assumedSlots      = 4
	assumedService    = 5 * time.Second
	assumedPromptRate = 1000 // tokens per second
)

// Order returns the indices of the boxes in the order in which they are tried, at most
// maxTried. The first one is
//   - the home box of the call's conversation, unless another box saves more waiting than that
//     one's cache saves prompt processing;
//   - else the own box, if it can begin at once;
//   - else the fastest of the own box and two random ones. If all boxes sent their calls to the
//     one that was the fastest a second ago, it would get them all.
//
// The others follow by their time to the first token. random returns a number from 0 to n-1.
// Order allocates its result only.
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
	least := time.Duration(-1) // wait at a box other than the home
	for at, i := range order {
		b := &boxes[i]
		wait := b.wait()
		switch {
		case i == homeBox:
			atHome = at
		case least < 0 || wait < least:
			least = wait
		}
		switch {
		case b.Own:
		case random < 2:
			random++
		default:
			continue
		}
		if b.Own && wait == 0 {
			times[at] = 0 // it begins at once
		}
		if fastest < 0 || times[at] < times[fastest] {
			fastest = at
		}
	}
	if atHome >= 0 && (least < 0 || boxes[homeBox].wait()-least <= boxes[homeBox].process(c.EarlierTokens)) {
		return atHome
	}
	return fastest
}

// wait returns how long a call waits at the box until it has a slot.
func (b *Box) wait() time.Duration {
	slots, service := b.Slots, b.Service
	if slots <= 0 {
		slots = assumedSlots
	}
	if service <= 0 {
		service = assumedService
	}
	ahead := b.Busy + b.Queued - slots + 1 // calls that have to end first
	return b.Load + service*time.Duration(max(ahead, 0))/time.Duration(slots)
}

// process returns how long the box processes tokens of a prompt.
func (b *Box) process(tokens int) time.Duration {
	rate := b.PromptRate
	if rate <= 0 {
		rate = assumedPromptRate
	}
	return time.Duration(float64(max(tokens, 0)) / rate * float64(time.Second))
}

// firstToken returns how long the box takes until its answer begins.
func (b *Box) firstToken(c *Call, cached bool) time.Duration {
	tokens := c.PromptTokens
	if cached {
		tokens -= c.EarlierTokens
	}
	t := b.wait() + b.process(tokens)
	if !b.Own {
		t += hop
	}
	return t
}
