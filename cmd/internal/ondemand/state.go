package ondemand

import (
	"cmp"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

const (
	// defaultLoadTime is assumed until a load has been measured.
	defaultLoadTime = 10 * time.Second
	// releaseTime is how long a process without calls takes to end, and the driver to release
	// its VRAM.
	releaseTime = 2 * time.Second
	// A load may be given up for another model once it has taken overdueTime, and overdueLoads
	// load times: an engine that prints lines for ever, and never answers, would block the others.
	overdueTime  = 10 * time.Minute
	overdueLoads = 3
	// defaultService is how long a call is assumed to take until some have been measured.
	defaultService = 10 * time.Second
	// defaultPrice is what a call elsewhere is assumed to cost until one has been paid for, in
	// USD, so that a free fallback does not keep a model unloaded for ever.
	defaultPrice = 0.001
)

// state returns what the scheduler decides about.
func (o *Owner) state(servers []Server, sample *gpu.Sample, now time.Time) scheduler.State {
	s := scheduler.State{Now: now, GPUs: gpusOf(sample)}
	for _, server := range servers {
		m := o.models[server.Name]
		if one, ok := m.describe(sample, now); ok {
			s.Models = append(s.Models, one)
		}
	}
	return s
}

// gpusOf returns the GPUs of a sample, in its order.
func gpusOf(sample *gpu.Sample) (gpus []scheduler.GPU) {
	for _, g := range sample.GPUs {
		one := scheduler.GPU{
			Name: fmt.Sprintf("GPU %d", g.Index), Unknown: g.MemoryTotal == nil || g.MemoryFree == nil, Lost: g.Lost, Unread: sample.Problem,
		}
		if g.Lost {
			one.Unread = fmt.Sprintf("the driver cannot reach GPU %d", g.Index)
		}
		if !one.Unknown {
			one.Total, one.Free = *g.MemoryTotal, *g.MemoryFree
		}
		gpus = append(gpus, one)
	}
	return gpus
}

// describe returns the model as the scheduler sees it. ok is false if it is not to be planned:
// it is not known yet, or holds no VRAM and cannot be loaded.
func (m *model) describe(sample *gpu.Sample, now time.Time) (s scheduler.Model, ok bool) {
	if !m.known || m.isAbsent() {
		return s, false
	}
	needs, unclaimed := m.needs(m.current(), sample)
	s = scheduler.Model{
		Name: m.Name, Pinned: m.Demand.Pinned(m.Pinned) || !m.OnDemand, IdleUnload: m.IdleUnload, Since: m.now.Since,
		LoadTime: m.expectedLoad(), Rebuild: m.Process.Rebuild(), LoadFrom: m.loadFrom,
		InFlight: m.calls.InFlight, LastUsed: m.lastUsed, Rate: m.demand.rate,
		Fallback: m.Fallback || m.neededElsewhere(now), Price: m.price(), Placements: m.choices(sample),
	}
	if !m.OnDemand {
		s.IdleUnload = 0
	}
	switch m.now.State {
	case supervisor.Ready, supervisor.Degraded:
		s.Phase, s.On = scheduler.Loaded, m.held(sample, needs)
		if sample.At.Before(m.now.Since) { // the sample may not show all of its VRAM
			s.Phase, s.Unclaimed = scheduler.Loading, unclaimed
		}
	case supervisor.Loading:
		s.Phase, s.On, s.Unclaimed = scheduler.Loading, needs, unclaimed
		s.Overdue = m.now.Since.Add(max(overdueTime, overdueLoads*m.expectedLoad()))
	case supervisor.Unloading:
		s.Phase, s.On, s.Waiting, s.Draining = scheduler.Unloading, m.held(sample, needs), m.calls.ForModel, m.forAnother && m.drains()
	case supervisor.Draining, supervisor.Drained: // an operator decides what becomes of it
		s.Phase, s.On = scheduler.Loading, needs
		return s, m.now.PID != 0
	case supervisor.Unloaded:
		m.addDemand(&s, now)
		if m.loading {
			m.addStart(&s)
		}
	case supervisor.Starting, supervisor.Restarting:
		s.LoadFrom = m.now.NextStart
		m.addDemand(&s, now)
		m.addStart(&s)
	case supervisor.Stopped, supervisor.Failed:
		return s, false
	}
	s.Leave = m.leaveTime(now)
	if m.unloading || m.reclaiming {
		s.Phase, s.On, s.Waiting, s.Unclaimed = scheduler.Unloading, needs, m.calls.ForModel, nil
	}
	return s, true
}

// isAbsent reports whether the model cannot be loaded, since its file is not there.
func (m *model) isAbsent() bool { return m.absent != "" && m.now.PID == 0 }

// drains reports whether the process may still finish its calls.
func (m *model) drains() bool {
	select {
	case <-m.now.Exited:
		return false
	default:
		return m.now.PID != 0
	}
}

// addDemand adds the calls that need a model which is not loaded.
func (m *model) addDemand(s *scheduler.Model, now time.Time) {
	s.Waiting, s.Oldest = m.calls.ForModel, m.calls.Since
	if !m.demand.byHand.IsZero() { // it comes first, and without the pause after a failure
		s.Waiting, s.Oldest, s.LoadFrom = max(s.Waiting, 1), m.demand.byHand.Add(-scheduler.Patience), m.now.NextStart
	}
	if !m.neededElsewhere(now) {
		s.Rate = 0
	}
}

// addStart adds the start that has been decided: its VRAM is not for others, and if it is gone
// by now, others have to leave.
func (m *model) addStart(s *scheduler.Model) {
	if s.Waiting == 0 || m.now.Since.Before(s.Oldest) {
		s.Waiting, s.Oldest = max(s.Waiting, 1), m.now.Since
	}
}

// leaveTime returns how long it takes until the VRAM of the model is free, if it is being
// unloaded or is unloaded now: its calls end, then its process, and then the driver releases
// the VRAM.
func (m *model) leaveTime(now time.Time) time.Duration {
	if m.now.PID == 0 {
		return max(releaseTime-now.Sub(m.endedAt), 0)
	}
	if m.calls.InFlight == 0 {
		return releaseTime
	}
	calls := cmp.Or(m.calls.Service, defaultService)
	if m.calls.Bound == 0 {
		left := drainBound
		if m.now.State == supervisor.Unloading {
			left -= now.Sub(m.now.Since)
		}
		calls = min(calls, max(left, 0))
	}
	return calls + releaseTime
}

func (m *model) expectedLoad() time.Duration {
	if m.loadTime > 0 {
		return m.loadTime
	}
	return defaultLoadTime
}

// price returns what a call costs at the fallback, in USD.
func (m *model) price() float64 {
	if m.calls.PaidInstead == 0 {
		return defaultPrice
	}
	return m.calls.ChargedForIt / float64(m.calls.PaidInstead)
}
