package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// Models implements control.Daemon.
func (d *Daemon) Models() (list []control.Model) {
	for _, s := range d.servers() {
		now, f, traffic := s.server.Snapshot(), d.ondemand.Figures(s.name), d.router.Load(s.name)
		load := control.Server{State: now.State.String(), Reason: now.Reason}
		addLoad(&load, now, f, traffic, time.Now())
		addReading(&load, s)
		m := control.Model{
			Name: s.name, State: load.State, Since: now.Since, Reason: load.Reason, Model: now.Model,
			Load: config.LoadAlways, Pinned: s.demand.Pinned(s.loading.Pinned), SizeBytes: known(s.workload.FileSize()),
			VRAMNeedBytes: known(f.Need), VRAMMeasuredBytes: known(f.Measured),
			LoadSeconds: known(cmp.Or(f.LoadTime, now.LoadDuration).Seconds()), Calls: traffic.Total, Loads: f.Loads, Unloads: map[string]int{},
			Download: d.downloadStatus(s),
		}
		if s.loading.OnDemand {
			m.Load, m.PromptCache = config.LoadOnDemand, s.server.PromptCaches()
		}
		for _, uuid := range f.GPUs {
			if g := d.monitor.Sample().Find(uuid); g != nil {
				m.GPUs = append(m.GPUs, g.Index)
			}
		}
		m.Placements = placementsOf(f.Choices, d.monitor.Sample())
		if f.Used {
			m.LastUsed = &f.LastUsed
		}
		m.Ready, m.LoadProgress, m.Waiting, m.WaitingSince = load.ReadyExpected, load.LoadProgress, load.WaitingForModel, load.WaitingSince
		for cause, n := range f.Unloads {
			m.Unloads[string(cause)] = n
		}
		list = append(list, m)
	}
	return list
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

// Load implements control.Daemon.
func (d *Daemon) Load(ctx context.Context, name string, emit func(control.Step) error) error {
	<-d.started
	s, err := d.loadable(name, "load")
	if err != nil {
		return err
	}
	switch now := s.server.Snapshot(); {
	case now.DrainRequested:
		return fmt.Errorf("%s is drained; llmsup resume %s ends that", name, name)
	case !now.State.Alive():
		s.demand.Load()
	}
	return d.followLoad(ctx, s, stepEmitter(name, emit))
}

// Pin sets whether a server's model stays once it is loaded, as `pinned` of the configuration
// does, until llmsup restarts or a reload changes that.
func (d *Daemon) Pin(name string, pinned bool) error {
	s, err := d.loadable(name, "pin")
	if err != nil {
		return err
	}
	s.demand.Pin(pinned)
	d.log.Info().Str("server", name).Bool("pinned", pinned).Msg("an operator has set whether the model stays once it is loaded")
	return nil
}

// loadable returns a server whose model an operator may load and unload.
func (d *Daemon) loadable(name, command string) (*managedServer, error) {
	if name == "" {
		return nil, errors.New("the body needs a server")
	}
	found, err := d.find([]string{name})
	if err != nil {
		return nil, err
	}
	if s := found[0]; s.loading.OnDemand {
		return s, nil
	}
	switch command {
	case "load":
		return nil, fmt.Errorf("%s is always loaded, since it has no load: on_demand in the configuration", name)
	case "pin":
		return nil, fmt.Errorf("%s is always loaded, and never unloaded for another model: it cannot be pinned or unpinned", name)
	}
	return nil, fmt.Errorf("%s is always loaded; set load: on_demand for it in the configuration and run llmsup reload, or take it out of use with llmsup drain %s", name, name)
}

// stepEmitter returns a function that emits a step, of the server or of the command, unless
// it is the one before.
func stepEmitter(server string, emit func(control.Step) error) func(step, text string) error {
	last := control.Step{}
	return func(step, text string) error {
		next := control.Step{Server: server, Step: step, Text: text}
		if next == last {
			return nil
		}
		last, next.At = next, time.Now()
		if step == control.StepLoaded || step == control.StepUnloaded || step == control.StepFailed {
			next.Server = ""
		}
		return emit(next)
	}
}

// followLoad emits the states of a server until it is loaded or its load has failed.
func (d *Daemon) followLoad(ctx context.Context, s *managedServer, emit func(step, text string) error) error {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		pending := s.demand.Pending() // before the state, which changes first
		now := s.server.Snapshot()
		text := stateText(now)
		switch {
		case now.State.Alive():
			return emit(control.StepLoaded, s.name+" is loaded, and is "+text)
		case now.DrainRequested:
			return emit(control.StepFailed, s.name+" was drained; llmsup resume "+s.name+" ends that")
		case !pending && (now.State == supervisor.Failed || now.State == supervisor.Unloaded), now.State == supervisor.Stopped:
			return emit(control.StepFailed, s.name+" is not loaded: "+text)
		}
		if err := emit(control.StepStarting, text); err != nil {
			return err
		}
		if !follow(ctx, s, now, tick) {
			return nil
		}
	}
}

// Unload implements control.Daemon.
func (d *Daemon) Unload(ctx context.Context, how control.UnloadRequest, emit func(control.Step) error) error {
	<-d.started
	s, err := d.loadable(how.Server, "unload")
	if err != nil {
		return err
	}
	if now := s.server.Snapshot(); now.DrainRequested {
		return fmt.Errorf("%s is drained; after llmsup resume %s it is as before the drain", s.name, s.name)
	} else if now.State != supervisor.Unloaded || s.demand.Pending() { // a load that waits ends
		s.demand.Unload(how.Now)
	}
	return d.followUnload(ctx, s, stepEmitter(s.name, emit))
}

// followUnload emits the states of a server until it is unloaded and its VRAM is free.
func (d *Daemon) followUnload(ctx context.Context, s *managedServer, emit func(step, text string) error) error {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	unloading := false
	for {
		now, figures := s.server.Snapshot(), d.ondemand.Figures(s.name)
		unloading = unloading || now.UnloadRequested
		switch {
		case now.State == supervisor.Unloaded && !figures.Reclaiming:
			return emit(control.StepUnloaded, s.name+" is unloaded; "+afterUnload(figures))
		case now.State == supervisor.Stopped:
			return emit(control.StepFailed, s.name+" is "+stateText(now))
		case unloading && !now.UnloadRequested && !now.DrainRequested: // a call has come meanwhile
			return emit(control.StepUnloaded, s.name+" was unloaded, and a call loads it again")
		}
		if calls := d.router.Load(s.name).Calls; now.State == supervisor.Unloading {
			if err := emit(control.StepRunning, fmt.Sprintf("unloading; calls that end first: %d", calls)); err != nil {
				return err
			}
		}
		if !follow(ctx, s, now, tick) {
			return nil
		}
	}
}

// afterUnload returns what becomes of an unloaded model.
func afterUnload(f ondemand.Figures) string {
	if f.Wait != nil && f.Wait.Never {
		return "it cannot be loaded: " + f.Wait.Reason
	}
	return ondemand.OnCall
}

// followInterval is the interval between two looks at a server that a command follows.
const followInterval = 100 * time.Millisecond

// follow waits until a server may have changed, and returns false if there is no more to
// follow.
func follow(ctx context.Context, s *managedServer, now *supervisor.Snapshot, tick *time.Ticker) bool {
	select {
	case <-ctx.Done(): // the client closed the connection
		return false
	case <-s.ctx.Done(): // llmsup stops, or a reload has removed the server
		return s.server.Snapshot() != now // the last state says why
	case <-now.Changed:
	case <-tick.C:
	}
	return true
}

func stateText(now *supervisor.Snapshot) string {
	if now.Reason == "" {
		return now.State.String()
	}
	return now.State.String() + ": " + now.Reason
}
