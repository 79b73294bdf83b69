package scheduler

import (
	"math"
	"slices"
	"time"
)

// planned is this package's rule.
type planned struct{}

func (planned) accepts(*simulation, int) bool { return true }
func (planned) rejects(*simulation, int) bool { return false }

func (planned) decide(s *simulation) {
	plan := Decide(s.state())
	for _, e := range plan.Evict {
		s.evict(s.index(e.Model))
	}
	for _, name := range plan.Keep {
		s.servers[s.index(name)].evicting = false
	}
	for _, l := range plan.Load {
		s.load(s.index(l.Model))
	}
	if !plan.Again.IsZero() {
		if at := plan.Again.Sub(s.epoch); at < s.wake {
			s.wake = at
			s.after(at-s.now, planAgain, 0)
		}
	}
}

func (s *simulation) index(name string) int {
	return slices.IndexFunc(s.servers, func(m *server) bool { return m.name == name })
}

const gib = 1 << 30

// state returns what Decide would see at this moment.
func (s *simulation) state() State {
	state := State{Now: s.epoch.Add(s.now), GPUs: []GPU{{Name: "GPU 0", Total: uint64(s.gib * gib), Free: uint64(max(s.freeGiB(), 0) * gib)}}}
	for _, m := range s.servers {
		on := Placement{{0, uint64(m.gib * gib)}}
		tokens := 0
		for _, n := range m.cached {
			tokens += n
		}
		x := Model{
			Name: m.name, IdleUnload: 15 * time.Minute, Placements: []Placement{on}, Phase: m.phase, Since: s.epoch.Add(m.since),
			LoadTime: m.load, Rebuild: time.Duration(float64(tokens) / m.prefill * float64(time.Second)),
			Waiting: len(m.queue), InFlight: m.busy, LastUsed: s.epoch.Add(m.lastUsed), Rate: m.rate.At(s.epoch.Add(s.now)),
			Fallback: s.fallback, Price: m.price,
		}
		if m.evicting {
			x.Phase, x.Draining = Unloading, m.busy > 0
		}
		if x.Phase != Unloaded {
			x.On = on
		}
		if len(m.queue) > 0 {
			x.Oldest = s.epoch.Add(m.queue[0].at)
		}
		state.Models = append(state.Models, x)
	}
	return state
}

// longestWaiting returns the model that is not loaded and whose first call has waited the
// longest; -1 = none.
func (s *simulation) longestWaiting() int {
	found, at := -1, time.Duration(math.MaxInt64)
	for i, m := range s.servers {
		if len(m.queue) > 0 && m.queue[0].at < at && (m.phase != Loaded || m.evicting) {
			found, at = i, m.queue[0].at
		}
	}
	return found
}

// countLRU is llama.cpp's router mode (--models-max): a number of models may be loaded; a
// call for another one evicts the least recently used, after its calls have ended.
type countLRU struct{ most int }

func (countLRU) accepts(*simulation, int) bool { return true }
func (countLRU) rejects(*simulation, int) bool { return false }

func (r countLRU) decide(s *simulation) {
	for i, m := range s.servers {
		if m.phase != Unloaded || len(m.queue) == 0 {
			continue
		}
		loaded, leaving := 0, 0
		lru := -1
		for j, other := range s.servers {
			if other.phase == Unloaded {
				continue
			}
			loaded++
			if other.evicting {
				leaving++
			} else if other.phase == Loaded && (lru < 0 || other.lastUsed < s.servers[lru].lastUsed) {
				lru = j
			}
		}
		switch {
		case loaded < r.most:
			s.load(i)
		case leaving == 0 && lru >= 0:
			s.evict(lru)
		}
	}
}

// ollama is Ollama's rule: one call at a time looks for a place, and blocks all others
// meanwhile. It fits if it needs at most 80 % of the free VRAM; else the model that has
// been idle is unloaded, by name.
type ollama struct{}

func (ollama) head(s *simulation) int {
	found, at := -1, time.Duration(math.MaxInt64)
	for i, m := range s.servers {
		if len(m.queue) > 0 && m.queue[0].at < at && (m.phase != Loaded || m.busy < m.slots) {
			found, at = i, m.queue[0].at
		}
	}
	return found
}

// accepts: calls behind the first one wait, too.
func (r ollama) accepts(s *simulation, model int) bool { return r.head(s) == model }
func (ollama) rejects(*simulation, int) bool           { return false }

func (r ollama) decide(s *simulation) {
	for i, m := range s.servers { // keep_alive: 5 minutes
		if m.phase == Loaded && !m.evicting && m.busy == 0 && len(m.queue) == 0 && s.now-m.lastUsed >= 5*time.Minute {
			s.evict(i)
		}
	}
	head := r.head(s)
	if head < 0 || s.servers[head].phase != Unloaded {
		return
	}
	if any := slices.ContainsFunc(s.servers, func(m *server) bool { return m.evicting }); any {
		return // it waits until that one is unloaded
	}
	empty := !slices.ContainsFunc(s.servers, func(m *server) bool { return m.phase != Unloaded })
	if s.servers[head].gib <= 0.8*s.freeGiB() || empty {
		s.load(head)
		return
	}
	victim := -1
	for i, m := range s.servers {
		if m.phase != Loaded {
			continue
		}
		if victim < 0 || m.busy == 0 && s.servers[victim].busy > 0 || (m.busy == 0) == (s.servers[victim].busy == 0) && m.name < s.servers[victim].name {
			victim = i
		}
	}
	if victim >= 0 {
		s.evict(victim)
	}
}

// llamaSwap is llama-swap's rule: a set of models may be loaded together, here any that fit.
// New calls for a loaded model always win: only a model without calls is swapped out. More
// than ten calls for one model are rejected with 429.
type llamaSwap struct{}

func (llamaSwap) accepts(*simulation, int) bool { return true }

func (llamaSwap) rejects(s *simulation, model int) bool {
	m := s.servers[model]
	return m.busy+len(m.queue) >= 10
}

func (llamaSwap) decide(s *simulation) {
	i := s.longestWaiting()
	if i < 0 || s.servers[i].phase != Unloaded {
		return
	}
	if s.servers[i].gib <= s.freeGiB() {
		s.load(i)
		return
	}
	free := s.freeGiB()
	for _, m := range s.servers {
		if m.evicting {
			free += m.gib
		}
	}
	var victims []int
	for j, m := range s.servers {
		if m.phase == Loaded && !m.evicting && m.busy == 0 && len(m.queue) == 0 {
			victims = append(victims, j)
		}
	}
	slices.SortFunc(victims, func(a, b int) int { return int(s.servers[a].lastUsed - s.servers[b].lastUsed) })
	for _, j := range victims {
		if free >= s.servers[i].gib {
			return
		}
		free += s.servers[j].gib
		s.evict(j)
	}
}
