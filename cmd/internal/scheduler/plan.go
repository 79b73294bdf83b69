package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MinLoaded is a model's minimum loaded time, in load times: it is not evicted before. A
// GPU so spends at most a third of its time loading.
const MinLoaded = 2

// Decide returns the plan for a state. It is pure, and takes time linear in the models that
// are wanted, and in the sets of models that could be evicted for them.
func Decide(s State) Plan {
	p := planner{State: s, free: make([]int64, len(s.GPUs)), leaving: make([]int64, len(s.GPUs)), taken: make([]bool, len(s.Models))}
	for i, g := range s.GPUs {
		p.free[i] = int64(g.Free)
	}
	for i := range s.Models {
		m := &s.Models[i]
		switch m.Phase {
		case Unloaded:
			if p.neverFits(m) {
				p.Wait = append(p.Wait, Wait{Model: m.Name, Never: true, Reason: p.tooLarge(m)})
				p.taken[i] = true
			}
		case Loading:
			p.reserve(m.Unclaimed)
		case Unloading:
			p.leave(i)
		case Loaded:
			p.unloadIdle(i)
		}
	}
	for _, i := range p.wantedModels() {
		p.place(&s.Models[i])
	}
	p.keepUnneeded()
	return p.Plan
}

// planner is the state of one planning.
type planner struct {
	State
	Plan
	// free is the free VRAM of each GPU that no model has been promised, and leaving is what
	// models that are being unloaded will free. Either can be negative: the driver's sample
	// may be older than a start.
	free, leaving []int64
	taken         []bool // models whose VRAM is promised to another one, or that never fit
}

func (p *planner) reserve(on Placement) {
	for _, share := range on {
		p.free[share.GPU] -= int64(share.Bytes)
	}
}

// unloadIdle evicts a model that has been idle for long enough.
func (p *planner) unloadIdle(i int) {
	m := &p.Models[i]
	if m.IdleUnload <= 0 || m.Pinned || m.InFlight > 0 || m.Waiting > 0 {
		return
	}
	if end := m.LastUsed.Add(m.IdleUnload); p.Now.Before(end) {
		p.again(end)
		return
	}
	p.evict(i, "")
}

func (p *planner) evict(i int, forModel string) {
	p.Evict = append(p.Evict, Eviction{Model: p.Models[i].Name, For: forModel})
	p.leave(i)
}

// leave counts a model's VRAM as what will be free.
func (p *planner) leave(i int) {
	p.taken[i] = true
	for _, share := range p.Models[i].On {
		p.leaving[share.GPU] += int64(share.Bytes)
	}
}

// promise reserves VRAM for a model that waits for others to leave.
func (p *planner) promise(on Placement) {
	for _, share := range on {
		later := min(int64(share.Bytes), p.leaving[share.GPU])
		p.leaving[share.GPU] -= later
		p.free[share.GPU] -= int64(share.Bytes) - later
	}
}

// keepUnneeded withdraws the eviction of models whose VRAM no other model has been promised: its
// calls have gone, or other VRAM has become free. One without calls leaves all the same.
func (p *planner) keepUnneeded() {
	for i := range p.Models {
		m := &p.Models[i]
		if m.Phase != Unloading || !m.Draining || m.InFlight+m.Waiting == 0 {
			continue
		}
		needed := slices.ContainsFunc(m.On, func(share Share) bool {
			return p.leaving[share.GPU]+min(p.free[share.GPU], 0) < int64(share.Bytes)
		})
		if needed {
			continue
		}
		p.Keep = append(p.Keep, m.Name)
		for _, share := range m.On {
			p.leaving[share.GPU] -= int64(share.Bytes)
		}
	}
}

func (p *planner) again(at time.Time) {
	if p.Again.IsZero() || at.Before(p.Again) {
		p.Again = at
	}
}

// wantedModels returns the models to load, in the order in which they get VRAM: first those
// that calls wait for, the longest wait first, so that none is passed over for ever; then
// those whose calls cost the most elsewhere.
func (p *planner) wantedModels() []int {
	var wanted []int
	for i := range p.Models {
		m := &p.Models[i]
		switch {
		case !m.wanted() || p.taken[i]:
		case p.Now.Before(m.LoadFrom):
			p.again(m.LoadFrom)
			p.wait(m, Wait{Reason: "its last load failed", Ready: m.LoadFrom.Add(m.LoadTime)})
		default:
			wanted = append(wanted, i)
		}
	}
	slices.SortStableFunc(wanted, func(a, b int) int {
		m, n := &p.Models[a], &p.Models[b]
		if (m.Waiting > 0) != (n.Waiting > 0) {
			return cmp.Compare(n.Waiting, m.Waiting)
		}
		if m.Waiting > 0 {
			return m.Oldest.Compare(n.Oldest)
		}
		return cmp.Compare(n.Price*n.Rate, m.Price*m.Rate)
	})
	return wanted
}

// place loads a model, or evicts others for it, or says why it waits. What it will need is
// promised to it in each case, so that a smaller model does not take it first.
func (p *planner) place(m *Model) {
	if on, ok := p.fitting(m, p.free); ok {
		p.Load = append(p.Load, Start{m.Name, on})
		p.reserve(on)
		return
	}
	soon := make([]int64, len(p.free))
	for i := range soon {
		soon[i] = p.free[i] + p.leaving[i]
	}
	if on, ok := p.fitting(m, soon); ok {
		p.promise(on)
		p.wait(m, Wait{Reason: "another model is being unloaded", Ready: p.loadedAfter(m, on, p.Now)})
		return
	}
	if why := p.unread(m); why != "" {
		p.wait(m, Wait{Reason: why})
		return
	}
	set, ok := p.bestSet(m, soon)
	if !ok {
		p.wait(m, p.whyNoSet(m))
		return
	}
	if gain := p.gain(m); gain < set.loss && !p.impatient(m) {
		at := p.affordableAt(m, set.loss-gain)
		p.wait(m, Wait{Reason: "the loaded models are in use", Ready: at.Add(m.LoadTime)})
		return
	}
	if p.Now.Before(set.from) {
		for _, i := range set.models {
			p.leave(i)
		}
		p.again(set.from)
		p.wait(m, Wait{Reason: "another model has just been loaded", Ready: p.loadedAfter(m, set.on, set.from)})
	} else {
		for _, i := range set.models {
			p.evict(i, m.Name)
		}
		p.wait(m, Wait{Reason: "another model is being unloaded", Ready: p.loadedAfter(m, set.on, p.Now)})
	}
	p.promise(set.on)
}

// loadedAfter returns when m is expected to be loaded, if the models that leave its GPUs begin
// to do so at a time.
func (p *planner) loadedAfter(m *Model, on Placement, from time.Time) time.Time {
	leave := time.Duration(0)
	for i := range p.Models {
		if other := &p.Models[i]; p.taken[i] && slices.ContainsFunc(other.On, func(a Share) bool {
			return slices.ContainsFunc(on, func(b Share) bool { return a.GPU == b.GPU })
		}) {
			leave = max(leave, other.Leave)
		}
	}
	return from.Add(leave + m.LoadTime)
}

// whyNoSet returns why no set of models can be evicted for m.
func (p *planner) whyNoSet(m *Model) Wait {
	for i := range p.Models {
		if v := &p.Models[i]; v.Phase == Loaded && p.servesFirst(v, m) && m.Waiting > 0 {
			at := m.Oldest.Add(Patience)
			p.again(at)
			return Wait{Reason: "calls for the loaded models come first", Ready: at.Add(m.LoadTime)}
		}
	}
	if !p.fitsWithout(m) {
		return Wait{Held: true, Reason: "the VRAM is held by other processes or by pinned models"}
	}
	for i := range p.Models {
		if v := &p.Models[i]; p.Now.Before(v.Overdue) {
			p.again(v.Overdue)
		}
	}
	return Wait{Reason: "other models are loaded first"}
}

// fitsWithout reports whether a model would fit if no other one were there that can be
// unloaded.
func (p *planner) fitsWithout(m *Model) bool {
	free := make([]int64, len(p.GPUs))
	for i, g := range p.GPUs {
		free[i] = int64(g.Free)
	}
	for i := range p.Models {
		v := &p.Models[i]
		if v.Pinned || v.Phase == Loading && v.Overdue.IsZero() {
			continue
		}
		for _, share := range v.On {
			free[share.GPU] += int64(share.Bytes)
		}
		for _, share := range v.Unclaimed {
			free[share.GPU] -= int64(share.Bytes)
		}
	}
	_, fits := p.fitting(m, free)
	return fits
}

// unread returns why the driver cannot say whether a model fits anywhere; "" = it can.
func (p *planner) unread(m *Model) (why string) {
	for _, on := range m.Placements {
		i := slices.IndexFunc(on, func(share Share) bool { return p.GPUs[share.GPU].Unread != "" })
		if i < 0 {
			return ""
		}
		why = p.GPUs[on[i].GPU].Unread
	}
	return why
}

// wait records why a model waits, if calls wait for it.
func (p *planner) wait(m *Model, w Wait) {
	if m.Waiting > 0 {
		w.Model = m.Name
		p.Wait = append(p.Wait, w)
	}
}

// fitting returns the placement of a model that leaves the least of the free VRAM unused,
// so that the larger gaps stay for larger models.
func (p *planner) fitting(m *Model, free []int64) (best Placement, ok bool) {
	if len(m.Placements) == 0 {
		return nil, true
	}
	left := int64(0)
	for _, on := range m.Placements {
		rest, fits := p.fits(on, free)
		if fits && (!ok || rest < left) {
			best, left, ok = on, rest, true
		}
	}
	return best, ok
}

// fits reports whether a placement fits, and how much of the free VRAM of its GPUs is left.
func (p *planner) fits(on Placement, free []int64) (rest int64, ok bool) {
	for _, share := range on {
		left := free[share.GPU] - int64(share.Bytes)
		switch g := p.GPUs[share.GPU]; {
		case g.Unread != "":
			if g.Lost || p.isUsed(share.GPU) {
				return 0, false
			}
		case left < 0 && !g.Unknown:
			return 0, false
		}
		rest += left
	}
	return rest, true
}

// isUsed reports whether a model is on a GPU, or is to be loaded onto it.
func (p *planner) isUsed(gpu int) bool {
	uses := func(on Placement) bool {
		return slices.ContainsFunc(on, func(share Share) bool { return share.GPU == gpu })
	}
	return slices.ContainsFunc(p.Models, func(m Model) bool { return m.Phase != Unloaded && uses(m.On) }) ||
		slices.ContainsFunc(p.Load, func(s Start) bool { return uses(s.On) })
}

// neverFits reports whether a model would not fit on GPUs that nothing else uses.
func (p *planner) neverFits(m *Model) bool {
	fits := func(on Placement) bool {
		return !slices.ContainsFunc(on, func(share Share) bool {
			g := p.GPUs[share.GPU]
			return !g.Unknown && g.Unread == "" && share.Bytes > g.Total
		})
	}
	return len(m.Placements) > 0 && !slices.ContainsFunc(m.Placements, fits)
}

// tooLarge returns why a model does not fit even on GPUs that nothing else uses.
func (p *planner) tooLarge(m *Model) string {
	on := m.Placements[len(m.Placements)-1] // that on all GPUs, if there are several
	share := slices.MaxFunc(on, func(a, b Share) int { return cmp.Compare(a.Bytes, b.Bytes) })
	need, total, where := share.Bytes, p.GPUs[share.GPU].Total, p.GPUs[share.GPU].Name+" has"
	if len(on) > 1 {
		need, total, where = 0, 0, "the GPUs have"
		for _, share := range on {
			need, total = need+share.Bytes, total+p.GPUs[share.GPU].Total
		}
	}
	return fmt.Sprintf("it needs %.1f GiB, and %s %.1f GiB", gibibytes(need), where, gibibytes(total))
}

func gibibytes(bytes uint64) float64 { return float64(bytes) / (1 << 30) }
