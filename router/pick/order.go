package pick

import (
	"cmp"
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

// Choice is a box that is asked to answer a call.
type Choice struct {
	Box     int           // its index
	MaxWait MaxWait       // it refuses the call rather than let it wait longer for a slot
	Rest    time.Duration // from the slot to the first token, and the way there
}

// MaxAsked is how many boxes are asked at most, the own one included. If more have the model
// loaded, the others are random: if the fastest of all were asked, all boxes would ask the same ones.
const MaxAsked = 17

// Order returns the boxes that are asked whether a call can begin, in this order:
//   - the home box of the call's conversation, which refuses the call if another one would answer
//     sooner, although it has the prompt to process that the home has cached;
//   - the own box, if the call can begin at once;
//   - the others by their expected time to the first token, each of which refuses the call unless
//     it can begin at once.
//
// If all refuse, the call waits where that is the shortest: at the box with the shortest sum of
// Rest and the wait that it expected when it refused. random returns a number from 0 to n-1.
// Order allocates its result only.
func Order(boxes []Box, c Call, random func(n int) int) []Choice {
	homeBox := home(boxes, &c)
	choices := sample(boxes, homeBox, random)
	for at := range choices {
		choices[at].Rest = boxes[choices[at].Box].rest(&c, choices[at].Box == homeBox)
		choices[at].MaxWait = AtMost(0)
	}
	rank := func(choice Choice) int {
		switch b := &boxes[choice.Box]; {
		case choice.Box == homeBox:
			return 0
		case b.Own && b.wait() == 0:
			return 1
		}
		return 2
	}
	expected := func(choice Choice) time.Duration { return boxes[choice.Box].wait() + choice.Rest }
	slices.SortStableFunc(choices, func(a, b Choice) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(expected(a), expected(b)))
	})
	if homeBox >= 0 && len(choices) > 1 {
		others := choices[1:]
		fastest := slices.MinFunc(others, func(a, b Choice) int { return cmp.Compare(expected(a), expected(b)) })
		choices[0].MaxWait = AtMost(max(expected(fastest)-choices[0].Rest, 0))
	}
	return choices
}

// sample returns the boxes that are asked, in random order: all, or the own box, the home box and
// random ones.
func sample(boxes []Box, homeBox int, random func(n int) int) []Choice {
	choices := make([]Choice, 0, min(len(boxes), MaxAsked))
	ask := func(i int) {
		if i >= 0 && !slices.ContainsFunc(choices, func(asked Choice) bool { return asked.Box == i }) {
			choices = append(choices, Choice{Box: i})
		}
	}
	if len(boxes) <= MaxAsked {
		for i := range boxes {
			ask(i)
		}
	} else {
		ask(slices.IndexFunc(boxes, func(b Box) bool { return b.Own }))
		ask(homeBox)
		for len(choices) < MaxAsked {
			ask(random(len(boxes)))
		}
	}
	for i := range choices {
		k := random(i + 1)
		choices[i], choices[k] = choices[k], choices[i]
	}
	return choices
}
