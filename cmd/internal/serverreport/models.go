package serverreport

import (
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/readiness"
	"github.com/llmsup/llmsup/gpu"
)

// Models returns the servers' models as `llmsup models` shows them.
func (r *Reporter) Models() (list []control.Model) {
	for _, s := range r.Servers() {
		list = append(list, modelOf(s, r.Sample()))
	}
	return list
}

func modelOf(s Server, sample *gpu.Sample) control.Model {
	now, f := s.Process.Snapshot(), s.Figures
	load := control.Server{State: now.State.String(), Reason: now.Reason}
	addLoad(&load, now, f, s.Load, time.Now())
	addReading(&load, s)
	m := control.Model{
		Name: s.Name, State: load.State, Since: now.Since, Reason: load.Reason, Model: now.Model,
		Load: config.LoadAlways, Pinned: s.Demand.Pinned(s.Settings.Pinned), SizeBytes: known(s.Workload.FileSize()),
		VRAMNeedBytes: known(f.Need), VRAMMeasuredBytes: known(f.Measured),
		LoadSeconds: known(readiness.LoadTime(now, f).Seconds()), Calls: s.Load.Total, Loads: f.Loads, Unloads: map[string]int{},
		Ready: load.ReadyExpected, LoadProgress: load.LoadProgress, Waiting: load.WaitingForModel, WaitingSince: load.WaitingSince,
		Placements: placementsOf(f.Choices, sample), Download: downloadStatus(s.Download),
	}
	if s.Settings.OnDemand {
		m.Load, m.PromptCache = config.LoadOnDemand, s.Process.PromptCaches()
	}
	for _, uuid := range f.GPUs {
		if g := sample.Find(uuid); g != nil {
			m.GPUs = append(m.GPUs, g.Index)
		}
	}
	if f.Used {
		m.LastUsed = &f.LastUsed
	}
	for cause, n := range f.Unloads {
		m.Unloads[string(cause)] = n
	}
	return m
}

// placementsOf returns where a model can be loaded, without what is on a GPU that is not in
// the sample.
func placementsOf(choices []ondemand.Choice, s *gpu.Sample) (all []control.Placement) {
	for _, choice := range choices {
		var p control.Placement
		for _, on := range choice {
			if g := s.Find(on.UUID); g != nil {
				need := known(on.Need)
				if need != nil {
					*need = placement.WithMargin(*need, *g)
				}
				p = append(p, control.PlacedOn{GPU: g.Index, NeedBytes: need})
			}
		}
		if len(p) == len(choice) {
			all = append(all, p)
		}
	}
	return all
}

// known returns nil for 0, which means unknown.
func known[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}
