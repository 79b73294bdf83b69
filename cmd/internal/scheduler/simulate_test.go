package scheduler

import (
	"container/heap"
	"math"
	"slices"
	"time"
)

// spec is a model of the simulation. Its speeds are those of one slot.
type spec struct {
	name     string
	gib      float64
	load     time.Duration
	slots    int
	prefill  float64 // prompt tokens per second
	generate float64 // tokens per second
	price    float64 // of a call at the fallback, in USD
}

// arrival is a call of a trace.
type arrival struct {
	at             time.Duration
	model          int
	prompt, output int // tokens
	session        int // a conversation, whose prompt the server keeps; 0 = none
}

// trace is what the simulation replays.
type trace struct {
	name     string
	gib      float64 // of the GPU's VRAM
	models   []spec
	arrivals []arrival
}

// unloading is how long a model's VRAM takes to be free after its last call.
const unloading = time.Second

// starvedAfter is the wait after which a client would have given up.
const starvedAfter = 60 * time.Second

// rule decides what is loaded. It calls load and evict of the simulation.
type rule interface {
	// decide is called after every event.
	decide(s *simulation)
	// accepts reports whether a loaded model may start a call that waits for it.
	accepts(s *simulation, model int) bool
	// rejects reports whether a call that arrives is rejected.
	rejects(s *simulation, model int) bool
}

// server is a model at a time of the simulation.
type server struct {
	spec
	phase    Phase
	since    time.Duration
	busy     int
	queue    []arrival
	lastUsed time.Duration
	loadedAt time.Duration
	evicting bool
	rate     Rate
	cached   map[int]int           // tokens of a session's prompt in its slots
	used     map[int]time.Duration // when a session was last used
}

// result is a row of the table.
type result struct {
	waits    []float64 // seconds to the first token, of calls that the GPU or the fallback answered
	swaps    int
	usd      float64
	starved  int
	decided  int
	deciding time.Duration
}

func (r *result) wait(p float64) float64 {
	if len(r.waits) == 0 {
		return 0
	}
	return r.waits[min(int(p*float64(len(r.waits))), len(r.waits)-1)]
}

// simulation replays a trace on one GPU under a rule.
type simulation struct {
	trace
	now      time.Duration
	servers  []*server
	fallback bool // calls for a model that is not loaded go to a paid fallback
	wake     time.Duration
	events   events
	result   result
	epoch    time.Time
}

type event struct {
	at    time.Duration
	order int
	kind  int
	model int
}

const (
	callEnded = iota
	modelLoaded
	modelUnloaded
	planAgain
)

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *simulation) after(d time.Duration, kind, model int) {
	heap.Push(&s.events, event{s.now + d, s.result.decided, kind, model})
}

// replay runs a trace under a rule.
func replay(t trace, r rule, fallback bool) result {
	s := &simulation{trace: t, fallback: fallback, epoch: time.Unix(0, 0), wake: math.MaxInt64}
	for _, m := range t.models {
		s.servers = append(s.servers, &server{spec: m, cached: map[int]int{}, used: map[int]time.Duration{}, lastUsed: -time.Hour})
	}
	left := t.arrivals
	for len(left) > 0 || len(s.events) > 0 {
		if len(s.events) == 0 || len(left) > 0 && left[0].at <= s.events[0].at {
			s.now = left[0].at
			s.arrive(r, left[0])
			left = left[1:]
		} else {
			e := heap.Pop(&s.events).(event)
			if e.kind == planAgain && e.at != s.wake {
				continue
			}
			s.now = e.at
			s.happen(e)
			if e.kind == planAgain && len(left) == 0 && s.idle() {
				continue // the trace is over: nothing is unloaded for being idle
			}
		}
		for i := range s.servers { // a model that has just been loaded starts its calls before another one can take its place
			s.start(r, i)
		}
		before := time.Now()
		r.decide(s)
		s.result.deciding += time.Since(before)
		s.result.decided++
		for i := range s.servers {
			s.start(r, i)
		}
	}
	for _, m := range s.servers {
		s.result.starved += len(m.queue)
	}
	slices.Sort(s.result.waits)
	return s.result
}

func (s *simulation) idle() bool {
	return !slices.ContainsFunc(s.servers, func(m *server) bool { return m.busy+len(m.queue) > 0 || m.phase == Loading })
}

func (s *simulation) arrive(r rule, a arrival) {
	m := s.servers[a.model]
	m.rate.Add(s.epoch.Add(s.now), 1)
	m.lastUsed = s.now
	switch {
	case s.fallback && (m.phase != Loaded || m.evicting):
		s.result.usd += m.price
		s.result.waits = append(s.result.waits, 0.5)
	case r.rejects(s, a.model):
		s.result.starved++
	default:
		m.queue = append(m.queue, a)
	}
}

func (s *simulation) happen(e event) {
	if e.kind == planAgain {
		s.wake = math.MaxInt64
		return
	}
	m := s.servers[e.model]
	switch e.kind {
	case callEnded:
		m.busy--
		m.lastUsed = s.now
		if m.evicting && m.busy == 0 {
			s.after(unloading, modelUnloaded, e.model)
		}
	case modelLoaded:
		m.phase, m.since, m.loadedAt = Loaded, s.now, s.now
	case modelUnloaded:
		m.phase, m.evicting, m.since = Unloaded, false, s.now
		clear(m.cached)
		clear(m.used)
	}
}

// start gives waiting calls the free slots of a loaded model.
func (s *simulation) start(r rule, i int) {
	m := s.servers[i]
	for m.phase == Loaded && !m.evicting && len(m.queue) > 0 && m.busy < m.slots && r.accepts(s, i) {
		a := m.queue[0]
		m.queue = m.queue[1:]
		m.busy++
		prompt := float64(a.prompt-min(m.cached[a.session], a.prompt)) / m.prefill
		if a.session != 0 {
			m.remember(a, s.now)
		}
		wait := (s.now - a.at).Seconds() + prompt
		s.result.waits = append(s.result.waits, wait)
		if s.now-a.at > starvedAfter {
			s.result.starved++
		}
		s.after(time.Duration((prompt+float64(a.output)/m.generate)*float64(time.Second)), callEnded, i)
	}
}

// remember keeps the prompts of as many sessions as there are slots.
func (m *server) remember(a arrival, now time.Duration) {
	m.cached[a.session], m.used[a.session] = a.prompt+a.output, now
	if len(m.cached) <= m.slots {
		return
	}
	oldest := a.session
	for session, at := range m.used {
		if at < m.used[oldest] || at == m.used[oldest] && session < oldest {
			oldest = session
		}
	}
	delete(m.cached, oldest)
	delete(m.used, oldest)
}

func (s *simulation) load(i int) {
	m := s.servers[i]
	m.phase, m.since = Loading, s.now
	s.result.swaps++
	s.after(m.load, modelLoaded, i)
}

// evict drains a model and ends it.
func (s *simulation) evict(i int) {
	m := s.servers[i]
	m.evicting = true
	if m.busy == 0 {
		s.after(unloading, modelUnloaded, i)
	}
	if s.fallback { // its waiting calls move
		for _, a := range m.queue {
			s.result.usd += m.price
			s.result.waits = append(s.result.waits, (s.now-a.at).Seconds()+0.5)
		}
		m.queue = nil
	}
}

// freeGiB returns the VRAM that no model holds.
func (s *simulation) freeGiB() float64 {
	free := s.gib
	for _, m := range s.servers {
		if m.phase != Unloaded {
			free -= m.gib
		}
	}
	return free
}
