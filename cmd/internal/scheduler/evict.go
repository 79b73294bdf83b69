package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// WaitPrice is what a second of a caller's waiting is worth, in USD. A call that costs 0.002
// USD elsewhere is so worth two seconds of waiting.
const WaitPrice = 0.001

// Patience is how long a call waits while calls for the loaded models come first. After it
// the call that has waited the longest comes first, whatever the swap costs.
const Patience = 40 * time.Second

// victims is a set of models that could be evicted for another one.
type victims struct {
	on     Placement // where the other one would be
	models []int
	loss   float64   // USD
	from   time.Time // when all of them will have been loaded for their minimum time
}

// bestSet returns the set of models whose eviction loses the least and makes room for m; of
// two that lose the same, the one with fewer models. free includes what is being unloaded.
func (p *planner) bestSet(m *Model, free []int64) (best victims, ok bool) {
	for _, on := range m.Placements {
		var candidates []int
		for i := range p.Models {
			if v := &p.Models[i]; p.evictable(v) && !p.taken[i] && !p.servesFirst(v, m) && shareGPU(v.On, on) {
				candidates = append(candidates, i)
			}
		}
		losses := map[int]float64{}
		for _, i := range candidates {
			losses[i] = p.loss(&p.Models[i], m)
		}
		slices.SortStableFunc(candidates, func(a, b int) int {
			return cmp.Compare(losses[a]/bytesOn(p.Models[a].On, on), losses[b]/bytesOn(p.Models[b].On, on))
		})
		s := search{planner: p, on: on, candidates: candidates, losses: losses, free: slices.Clone(free), best: best, found: ok}
		s.try(0, 0)
		best, ok = s.best, s.found
	}
	return best, ok
}

// evictable reports whether a model may leave for another one: it is loaded, or its load takes
// so long that it may never end.
func (p *planner) evictable(v *Model) bool {
	overdue := v.Phase == Loading && !v.Overdue.IsZero() && !p.Now.Before(v.Overdue)
	return !v.Pinned && (v.Phase == Loaded || overdue)
}

// bytesOn returns how much of a placement is on the GPUs of another one, in bytes.
func bytesOn(on, other Placement) float64 {
	sum := uint64(0)
	for _, share := range on {
		if shareGPU(Placement{share}, other) {
			sum += share.Bytes
		}
	}
	return float64(sum)
}

// maxSteps bounds the search: with the cheapest VRAM first, its first set is already good,
// and up to a dozen candidates are searched completely.
const maxSteps = 10_000

// search is a depth-first search of the subsets of some models.
type search struct {
	*planner
	on         Placement
	candidates []int           // the cheapest VRAM first
	losses     map[int]float64 // of the candidates, in USD
	free       []int64         // with the chosen models evicted

	steps  int
	chosen []int
	best   victims
	found  bool
}

func (s *search) try(next int, loss float64) {
	if s.steps++; s.steps > maxSteps {
		return
	}
	if s.found && (loss > s.best.loss || loss == s.best.loss && len(s.chosen) >= len(s.best.models)) {
		return
	}
	if _, ok := s.fits(s.on, s.free); ok {
		s.found = true
		s.best = victims{on: s.on, models: append([]int(nil), s.chosen...), loss: loss}
		for _, i := range s.chosen {
			if from := s.Models[i].protectedUntil(); from.After(s.best.from) {
				s.best.from = from
			}
		}
		return
	}
	for n := next; n < len(s.candidates); n++ {
		i := s.candidates[n]
		s.add(s.Models[i].On, 1)
		s.chosen = append(s.chosen, i)
		s.try(n+1, loss+s.losses[i])
		s.chosen = s.chosen[:len(s.chosen)-1]
		s.add(s.Models[i].On, -1)
	}
}

func (s *search) add(on Placement, sign int64) {
	for _, share := range on {
		s.free[share.GPU] += sign * int64(share.Bytes)
	}
}

func shareGPU(a, b Placement) bool {
	for _, x := range a {
		for _, y := range b {
			if x.GPU == y.GPU {
				return true
			}
		}
	}
	return false
}

// impatient reports whether a call has waited for a model for so long that it comes first.
func (p *planner) impatient(m *Model) bool { return m.Waiting > 0 && p.Now.Sub(m.Oldest) >= Patience }

// servesFirst reports whether a loaded model finishes the calls that wait for it before it
// makes room for another one: until then a swap would only make more calls wait.
func (p *planner) servesFirst(v, m *Model) bool { return v.Waiting > 0 && !p.impatient(m) }

// protectedUntil returns when a model has been loaded for its minimum time.
func (m *Model) protectedUntil() time.Time { return m.Since.Add(MinLoaded * m.LoadTime) }

// stay returns for how long a model keeps its place at least, from its start.
func (m *Model) stay() time.Duration { return (1 + MinLoaded) * m.LoadTime }

// loss returns what it costs to evict v for m, in USD: while m keeps the place, calls for v
// wait or go elsewhere, and afterwards v has to be loaded again and to process its prompts
// again, if it is wanted by then.
func (p *planner) loss(v, m *Model) float64 {
	wanted := 1 - math.Exp(-v.Rate*m.stay().Seconds())
	if v.Waiting+v.InFlight > 0 {
		wanted = 1
	}
	lost := wanted * v.Rebuild.Seconds() * WaitPrice
	if v.Fallback {
		return lost + v.Price*v.Rate*(m.stay()+v.LoadTime).Seconds()
	}
	return lost + wanted*v.LoadTime.Seconds()*WaitPrice
}

// gain returns what it is worth to load m now, in USD: for how long its first call has
// waited, and what its calls would cost elsewhere during the minimum time that it stays.
func (p *planner) gain(m *Model) float64 {
	gain := 0.0
	if m.Waiting > 0 {
		gain = p.Now.Sub(m.Oldest).Seconds() * WaitPrice
	}
	if m.Fallback {
		gain += m.Price * m.Rate * (MinLoaded * m.LoadTime).Seconds()
	}
	return gain
}

// affordableAt returns when the wait of m's first call will be worth a further loss, and
// plans again then; zero = no call waits.
func (p *planner) affordableAt(m *Model, missing float64) time.Time {
	if m.Waiting == 0 {
		return time.Time{}
	}
	at := p.Now.Add(time.Duration(missing / WaitPrice * float64(time.Second))).Add(time.Millisecond)
	if bound := m.Oldest.Add(Patience); bound.Before(at) {
		at = bound
	}
	p.again(at)
	return at
}
