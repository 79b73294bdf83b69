package pick

import (
	"container/heap"
	"fmt"
	"math"
	"slices"
	"time"
)

// simulation is a fleet that answers the calls of a trace, each at the box that a rule chooses.
type simulation struct {
	scenario
	now       time.Duration
	state     []boxState
	announced []Box // the boxes as all others know them: a second old at most
	number    []int // of the last announcement of each
	sent      []map[int]sent
	events    events
	random    func(n int) int
	ready     known // reused by view
	unloaded  known

	waits       []time.Duration // of all calls, until they had a slot; sorted at the end
	first       []time.Duration // the same until the first token
	arrived     []int           // hops at each box since its announcement
	largest     int             // of arrived
	hops        int
	refusals    int
	loads       int
	loading     int // boxes that load the model now
	mostLoading int // at one time
	gaveUp      []gaveUp
	prompt      int // tokens of conversations
	fromCaches  int
}

// boxState is a box at the present moment.
type boxState struct {
	busy     int
	queue    []*running
	service  time.Duration // moving average
	unloaded bool          // it does not have the model, or loads it
	loading  bool
	loadEnds time.Duration  // when it is expected to have the model loaded, if it loads it
	cached   map[uint64]int // tokens of each conversation
}

// sent is how many calls one box has sent another since an announcement, that still run.
type sent struct{ announcement, calls int }

// known is what a box knows of some boxes, and their indices.
type known struct {
	boxes []Box
	index []int
}

// gaveUp is a call that moved on since a box did not load the model in time.
type gaveUp struct {
	waited    time.Duration // there
	elsewhere time.Duration // the expected time to the first token at the best other box
}

// running is a call at its box.
type running struct {
	arrival
	box          int
	announcement int // of the box when the call came
	began        time.Duration
	asking       time.Duration // the boxes that refused it
}

// event is something that happens at a moment.
type event struct {
	at   time.Duration
	then func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulate answers a trace.
func simulate(sc scenario, trace []arrival, r rule) *simulation {
	s := &simulation{
		scenario: sc, state: make([]boxState, sc.boxes), announced: make([]Box, sc.boxes), number: make([]int, sc.boxes),
		sent: make([]map[int]sent, sc.boxes+sc.gateways), random: seeded(3), arrived: make([]int, sc.boxes),
	}
	for i := range s.sent {
		s.sent[i] = map[int]sent{}
	}
	for i := range s.state {
		s.state[i].cached, s.state[i].unloaded = map[uint64]int{}, !sc.loaded(i)
		s.announced[i].Name = fmt.Sprint("box", i)
		s.announced[i] = s.exact(i)
		s.after(time.Duration(s.random(int(time.Second))), func() { s.announce(i) })
	}
	for i := range trace {
		for s.events[0].at <= trace[i].at {
			s.step()
		}
		s.now = trace[i].at
		s.place(&trace[i], r)
	}
	for len(s.waits) < len(trace) {
		s.step()
	}
	slices.Sort(s.waits)
	slices.Sort(s.first)
	return s
}

func (s *simulation) after(d time.Duration, then func()) {
	heap.Push(&s.events, event{s.now + d, then})
}

func (s *simulation) step() {
	e := heap.Pop(&s.events).(event)
	s.now = e.at
	e.then()
}

// exact returns a box as it is now. Of one that does not have the model loaded, the slots are unknown.
func (s *simulation) exact(i int) Box {
	b := &s.state[i]
	now := Box{Name: s.announced[i].Name, Slots: s.slots, Busy: b.busy, Queued: len(b.queue), Service: b.service, PromptRate: promptRate * s.speed(i)}
	switch {
	case b.loading: // one that takes longer than expected is expected to take as long again
		now.Slots, now.Load, now.Loading = 0, max((b.loadEnds-s.now).Abs(), time.Second), true
	case b.unloaded:
		now.Slots, now.Load = 0, s.loadTime
	}
	return now
}

// view sets ready and unloaded to the boxes as one of them knows them. A gateway is none of them.
func (s *simulation) view(box int) {
	s.ready.boxes, s.ready.index = s.ready.boxes[:0], s.ready.index[:0]
	s.unloaded.boxes, s.unloaded.index = s.unloaded.boxes[:0], s.unloaded.index[:0]
	for i := range s.announced {
		list := &s.ready
		if (i == box && s.state[i].unloaded) || (i != box && s.announced[i].Load > 0) {
			list = &s.unloaded
		}
		list.boxes, list.index = append(list.boxes, s.announced[i]), append(list.index, i)
		if i == box {
			own := &list.boxes[len(list.boxes)-1]
			*own = s.exact(i)
			own.Own = true
		}
	}
	for to, n := range s.sent[box] {
		if n.announcement != s.number[to] {
			delete(s.sent[box], to)
			continue
		}
		for _, list := range []*known{&s.ready, &s.unloaded} {
			if at, ok := slices.BinarySearch(list.index, to); ok {
				list.boxes[at].Busy += n.calls
			}
		}
	}
}

// place gives a call to the first box that does not refuse it, else to the one where it waits
// for the shortest time: that may be one that has to load the model.
func (s *simulation) place(a *arrival, r rule) {
	call := &running{arrival: *a}
	best, least := -1, time.Duration(math.MaxInt64)
	asked, load := r(s, a)
	for _, choice := range asked {
		b := s.exact(choice.Box)
		wait := b.wait()
		if !choice.MaxWait.Limited || wait <= choice.MaxWait.Limit {
			s.send(call, choice.Box)
			return
		}
		if wait+choice.Rest < least {
			best, least = choice.Box, wait+choice.Rest
		}
		if choice.Box != a.source {
			s.refusals++
			call.asking += hop
		}
	}
	if load == nil || load.firstToken >= least {
		s.send(call, best)
		return
	}
	if b := s.exact(load.box); b.wait()-b.Load > least-load.wait/2 { // its queue has grown since it was announced
		s.refusals++
		call.asking += hop
		s.send(call, best)
		return
	}
	s.send(call, load.box)
	since := s.now
	if !s.state[load.box].unloaded {
		return
	}
	s.after(load.wait, func() { // the call moves on
		if b := &s.state[load.box]; b.unloaded {
			b.queue = slices.DeleteFunc(b.queue, func(r *running) bool { return r == call })
			s.gaveUp = append(s.gaveUp, gaveUp{s.now - since, least})
			s.send(call, best)
		}
	})
}

// send gives a call to a box, which may have to load the model for it.
func (s *simulation) send(call *running, box int) {
	call.box, call.announcement = box, s.number[box]
	if box != call.source {
		s.hops++
		n := s.sent[call.source][box]
		if n.announcement != call.announcement {
			n = sent{announcement: call.announcement}
		}
		n.calls++
		s.sent[call.source][box] = n
		s.arrived[box]++
		s.largest = max(s.largest, s.arrived[box])
	}
	b := &s.state[box]
	if !b.unloaded && b.busy < s.slots {
		s.begin(call)
		return
	}
	b.queue = append(b.queue, call)
	if b.unloaded && !b.loading {
		s.load(b)
	}
}

// load begins to load the model.
func (s *simulation) load(b *boxState) {
	b.loading, b.loadEnds = true, s.now+s.loadTime
	s.loads++
	s.loading++
	s.mostLoading = max(s.mostLoading, s.loading)
	if s.neverLoaded {
		return
	}
	s.after(s.loadTime, func() {
		s.loading--
		b.unloaded, b.loading = false, false
		for len(b.queue) > 0 && b.busy < s.slots {
			s.next(b)
		}
	})
}

// next gives the slot of a box to the next call in its queue.
func (s *simulation) next(b *boxState) {
	call := b.queue[0]
	b.queue = b.queue[1:]
	s.begin(call)
}

// begin gives a call a slot.
func (s *simulation) begin(r *running) {
	b := &s.state[r.box]
	b.busy++
	r.began = s.now
	cached := b.cached[r.call.Conversation]
	if r.call.Conversation != 0 {
		s.prompt += r.call.PromptTokens
		s.fromCaches += cached
	}
	wait := s.now - r.at + r.asking
	process := time.Duration(float64(r.call.PromptTokens-cached) / promptRate / s.speed(r.box) * float64(time.Second))
	s.waits = append(s.waits, wait)
	if r.box != r.source {
		wait += hop
	}
	s.first = append(s.first, wait+process)
	s.after(process+time.Duration(float64(r.generates)/s.speed(r.box)), func() { s.end(r) })
}

// announce sends a box's state to all others, each second.
func (s *simulation) announce(box int) {
	s.announced[box] = s.exact(box)
	s.number[box]++
	s.arrived[box] = 0
	s.after(time.Second, func() { s.announce(box) })
}

// end frees the slot of a call.
func (s *simulation) end(r *running) {
	b := &s.state[r.box]
	b.busy--
	took := s.now - r.began
	if b.service == 0 {
		b.service = took
	}
	b.service += (took - b.service) / 8
	if r.call.Conversation != 0 {
		b.cached[r.call.Conversation] = r.text
	}
	if n := s.sent[r.source][r.box]; r.box != r.source && n.announcement == r.announcement {
		n.calls--
		s.sent[r.source][r.box] = n
	}
	if len(b.queue) > 0 {
		s.next(b)
	}
}

// percentile returns a value of sorted ones.
func percentile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(float64(len(sorted)-1)*q)]
}

// rule chooses the boxes that are asked, and the one that may load the model; nil = none may.
type rule func(s *simulation, a *arrival) ([]Choice, *toLoad)

// toLoad is the box that may load the model for a call.
type toLoad struct {
	box        int
	firstToken time.Duration // expected
	wait       time.Duration // after it the call moves on
}

// The rules that are compared.
var rules = map[string]rule{
	withOrder: func(s *simulation, a *arrival) ([]Choice, *toLoad) {
		choices := s.order(a)
		i, firstToken := ToLoad(s.unloaded.boxes, a.call)
		if i < 0 {
			return choices, nil
		}
		return choices, &toLoad{s.unloaded.index[i], firstToken, 2 * s.unloaded.boxes[i].Load}
	},
	withoutLoads: func(s *simulation, a *arrival) ([]Choice, *toLoad) { return s.order(a), nil },
	// The oracle knows the queues of all boxes at this moment.
	withOracle: func(s *simulation, a *arrival) ([]Choice, *toLoad) {
		var b Box
		return s.fastest(a, func(i int) *Box {
			b = s.exact(i)
			b.Own = i == a.source
			return &b
		})
	},
	// Two random boxes are compared by what they have announced, and none refuses.
	withTwo: func(s *simulation, a *arrival) ([]Choice, *toLoad) {
		s.view(a.source)
		boxes := s.ready.boxes
		x, y := s.random(s.boxes), s.random(s.boxes)
		if boxes[y].firstToken(&a.call) < boxes[x].firstToken(&a.call) {
			x = y
		}
		return []Choice{{Box: x}}, nil
	},
	withFastest: func(s *simulation, a *arrival) ([]Choice, *toLoad) {
		s.view(a.source)
		return s.fastest(a, func(i int) *Box { return &s.ready.boxes[i] })
	},
	withRandom: func(s *simulation, _ *arrival) ([]Choice, *toLoad) { return []Choice{{Box: s.random(s.boxes)}}, nil },
}

// order asks the boxes that have the model loaded, by what the call's box knows.
func (s *simulation) order(a *arrival) []Choice {
	s.view(a.source)
	choices := Order(s.ready.boxes, a.call, s.random)
	for i := range choices {
		choices[i].Box = s.ready.index[choices[i].Box]
	}
	return choices
}

// fastest returns the box with the shortest time to the first token.
func (s *simulation) fastest(a *arrival, box func(i int) *Box) ([]Choice, *toLoad) {
	best, least := 0, time.Duration(math.MaxInt64)
	atHome := home(s.announced, &a.call)
	for i := range s.state {
		b := box(i)
		if t := b.wait() + b.rest(&a.call, i == atHome); t < least {
			best, least = i, t
		}
	}
	return []Choice{{Box: best}}, nil
}
