package pick

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// scenario is a fleet and its calls.
type scenario struct {
	boxes, slots int
	load         float64                       // share of the slots that would be busy on average without caches
	chats        float64                       // share of the calls that are turns of conversations
	entries      int                           // only so many boxes get calls; 0 = all
	gateways     int                           // all calls come to so many boxes that do not have the model; 0 = none
	length       time.Duration                 // in which calls and conversations begin
	loadedOfTen  int                           // of ten boxes, so many have the model loaded at the start, and load is about these; 0 = all
	loadTime     time.Duration                 // of the model
	neverLoaded  bool                          // the model's loads do not end
	shape        func(seconds float64) float64 // of the calls' rate, 1 on average; nil = a burst in every tenth second
}

const (
	promptRate = 2000.0 // tokens per second
	generation = 1500 * time.Millisecond
	slowness   = 5     // of one box in ten
	prompt     = 500.0 // tokens of a single call on average
	turns      = 10    // of a conversation
	turn       = 300   // tokens that a turn adds, half of them its answer
	pause      = 10.0  // seconds on average between two turns
	burst      = 4     // times as many calls begin in every tenth second
)

// arrival is a call that comes to a box.
type arrival struct {
	at        time.Duration
	source    int // the box
	call      Call
	text      int           // tokens of the conversation, this call's answer included
	generates time.Duration // on a box that is not slow
}

// speed returns how fast a box is.
func (sc scenario) speed(box int) float64 {
	if box%10 == 9 {
		return 1.0 / slowness
	}
	return 1
}

// loaded reports whether a box has the model loaded at the start.
func (sc scenario) loaded(box int) bool { return sc.loadedOfTen == 0 || box%10 < sc.loadedOfTen }

// bursts is the shape with a burst in every tenth second.
func bursts(seconds float64) float64 {
	if math.Mod(seconds, 10) >= 9 {
		return burst * 10 / (9.0 + burst)
	}
	return 10 / (9.0 + burst)
}

// trace returns the calls of a scenario.
func (sc scenario) trace(seed uint64) (all []arrival) {
	r := rand.New(rand.NewPCG(seed, 2))
	capacity := 0.0
	for i := range sc.boxes {
		if sc.loaded(i) {
			capacity += float64(sc.slots) * sc.speed(i)
		}
	}
	seconds := generation.Seconds() + ((1-sc.chats)*prompt+sc.chats*turn*(turns+1)/2)/promptRate // of a call
	conversations := sc.chats / (sc.chats + (1-sc.chats)*turns)                                  // share in what begins
	rate := capacity * sc.load / seconds / (1 - conversations + conversations*turns)
	shape := sc.shape
	if shape == nil {
		shape = bursts
	}
	for at, conversation := 0.0, uint64(0); at < sc.length.Seconds(); {
		at += r.ExpFloat64() / (rate * shape(at))
		if r.Float64() >= conversations {
			all = append(all, sc.arrival(r, at, Call{PromptTokens: 1 + int(r.ExpFloat64()*prompt)}))
			continue
		}
		conversation++
		next := at
		for i := range turns {
			c := Call{PromptTokens: turn*i + turn/2}
			if i > 0 {
				c.Conversation, c.EarlierTokens = conversation, turn*i
			}
			a := sc.arrival(r, next, c)
			a.text = turn * (i + 1)
			all = append(all, a)
			next += generation.Seconds() + r.ExpFloat64()*pause
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	return all
}

func (sc scenario) arrival(r *rand.Rand, seconds float64, c Call) arrival {
	a := arrival{at: time.Duration(seconds * float64(time.Second)), call: c, generates: time.Duration(r.ExpFloat64() * float64(generation))}
	switch {
	case sc.gateways > 0:
		a.source = sc.boxes + r.IntN(sc.gateways)
	case sc.entries > 0:
		a.source = r.IntN(sc.entries)
	default:
		a.source = r.IntN(sc.boxes)
	}
	return a
}
