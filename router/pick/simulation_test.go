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
	known     []Box // reused by view

	waits      []time.Duration // of all calls, until they had a slot; sorted at the end
	first      []time.Duration // the same until the first token
	arrived    []int           // hops at each box since its announcement
	largest    int             // of arrived
	hops       int
	refusals   int
	prompt     int // tokens of conversations
	fromCaches int
}

// boxState is a box at the present moment.
type boxState struct {
	busy    int
	queue   []*running
	service time.Duration  // moving average
	cached  map[uint64]int // tokens of each conversation
}

// sent is how many calls one box has sent another since an announcement, that still run.
type sent struct{ announcement, calls int }

// running is a call at its box.
type running struct {
	arrival
	box          int
	announcement int // of the box when the call came
	began        time.Duration
	asking       time.Duration // the boxes that refused it
}

// event is the end of a call, or an announcement of a box.
type event struct {
	at   time.Duration
	call *running // nil = the box announces itself
	box  int
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
		s.state[i].cached = map[uint64]int{}
		s.announced[i].Name = fmt.Sprint("box", i)
		s.announced[i] = s.exact(i)
		heap.Push(&s.events, event{at: time.Duration(s.random(int(time.Second))), box: i})
	}
	for i := range trace {
		for s.events[0].at <= trace[i].at {
			s.step(heap.Pop(&s.events).(event))
		}
		s.now = trace[i].at
		s.place(&trace[i], r)
	}
	for len(s.waits) < len(trace) {
		s.step(heap.Pop(&s.events).(event))
	}
	slices.Sort(s.waits)
	slices.Sort(s.first)
	return s
}

// exact returns a box as it is now.
func (s *simulation) exact(i int) Box {
	b := &s.state[i]
	return Box{Name: s.announced[i].Name, Slots: s.slots, Busy: b.busy, Queued: len(b.queue), Service: b.service, PromptRate: promptRate * s.speed(i)}
}

// view returns the boxes as one of them knows them. A gateway is none of them.
func (s *simulation) view(box int) []Box {
	s.known = append(s.known[:0], s.announced...)
	if box < s.boxes {
		s.known[box] = s.exact(box)
		s.known[box].Own = true
	}
	for to, n := range s.sent[box] {
		if n.announcement == s.number[to] {
			s.known[to].Busy += n.calls
		} else {
			delete(s.sent[box], to)
		}
	}
	return s.known
}

// place gives a call to the first box that does not refuse it, else to the one where it waits
// for the shortest time.
func (s *simulation) place(a *arrival, r rule) {
	call := &running{arrival: *a}
	least := time.Duration(math.MaxInt64)
	for _, choice := range r(s, a) {
		b := s.exact(choice.Box)
		wait := b.wait()
		if !choice.MaxWait.Limited || wait <= choice.MaxWait.Limit {
			call.box = choice.Box
			break
		}
		if wait+choice.Rest < least {
			call.box, least = choice.Box, wait+choice.Rest
		}
		if choice.Box != a.source {
			s.refusals++
			call.asking += hop
		}
	}
	call.announcement = s.number[call.box]
	if call.box != a.source {
		s.hops++
		n := s.sent[a.source][call.box]
		if n.announcement != call.announcement {
			n = sent{announcement: call.announcement}
		}
		n.calls++
		s.sent[a.source][call.box] = n
		s.arrived[call.box]++
		s.largest = max(s.largest, s.arrived[call.box])
	}
	if b := &s.state[call.box]; b.busy < s.slots {
		s.begin(call)
	} else {
		b.queue = append(b.queue, call)
	}
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
	heap.Push(&s.events, event{at: s.now + process + time.Duration(float64(r.generates)/s.speed(r.box)), call: r})
}

func (s *simulation) step(e event) {
	s.now = e.at
	if e.call == nil {
		s.announced[e.box] = s.exact(e.box)
		s.number[e.box]++
		s.arrived[e.box] = 0
		heap.Push(&s.events, event{at: e.at + time.Second, box: e.box})
		return
	}
	r := e.call
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
		next := b.queue[0]
		b.queue = b.queue[1:]
		s.begin(next)
	}
}

// percentile returns a value of sorted ones.
func percentile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(float64(len(sorted)-1)*q)]
}

// rule chooses the boxes that are asked.
type rule func(s *simulation, a *arrival) []Choice

// The rules that are compared.
var rules = map[string]rule{
	withOrder: func(s *simulation, a *arrival) []Choice { return Order(s.view(a.source), a.call, s.random) },
	// The oracle knows the queues of all boxes at this moment.
	withOracle: func(s *simulation, a *arrival) []Choice {
		return s.fastest(a, func(i int) Box {
			b := s.exact(i)
			b.Own = i == a.source
			return b
		})
	},
	// Two random boxes are compared by what they have announced, and none refuses.
	withTwo: func(s *simulation, a *arrival) []Choice {
		boxes := s.view(a.source)
		x, y := s.random(s.boxes), s.random(s.boxes)
		if boxes[y].firstToken(&a.call) < boxes[x].firstToken(&a.call) {
			x = y
		}
		return []Choice{{Box: x}}
	},
	withFastest: func(s *simulation, a *arrival) []Choice {
		boxes := s.view(a.source)
		return s.fastest(a, func(i int) Box { return boxes[i] })
	},
	withRandom: func(s *simulation, _ *arrival) []Choice { return []Choice{{Box: s.random(s.boxes)}} },
}

// fastest returns the box with the shortest time to the first token.
func (s *simulation) fastest(a *arrival, box func(i int) Box) []Choice {
	best, least := 0, time.Duration(math.MaxInt64)
	atHome := home(s.announced, &a.call)
	for i := range s.state {
		b := box(i)
		if t := b.wait() + b.rest(&a.call, i == atHome); t < least {
			best, least = i, t
		}
	}
	return []Choice{{Box: best}}
}
