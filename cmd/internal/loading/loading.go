// Package loading carries out an operator's commands to load, unload and pin the models of servers
// that are loaded on demand, and reports each step until it is done. Package ondemand decides when
// a model is loaded. The daemon makes the one Loader.
package loading

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/supervisor"
)

// Server is a server as its commands see it.
type Server struct {
	Name     string
	OnDemand bool // its model is loaded on demand
	Process  *supervisor.Server
	Demand   *ondemand.Demand
	Context  context.Context //nolint:containedctx // of the server, until it is removed or llmsup stops
}

// Loader carries out the commands.
type Loader struct {
	Find    func(name string) (Server, error)
	Figures func(server string) ondemand.Figures
	Calls   func(server string) int // in flight
	Log     zerolog.Logger
}

// Load loads a server's model, and emits the steps until it is loaded.
func (l Loader) Load(ctx context.Context, name string, emit func(control.Step) error) error {
	s, err := l.loadable(name, "load")
	if err != nil {
		return err
	}
	switch now := s.Process.Snapshot(); {
	case now.DrainRequested:
		return fmt.Errorf("%s is drained; llmsup resume %s ends that", name, name)
	case !now.State.Alive():
		s.Demand.Load()
	}
	return l.followLoad(ctx, s, stepEmitter(name, emit))
}

// Pin sets whether a server's model stays once it is loaded, as `pinned` of the configuration
// does, until llmsup restarts or a reload changes that.
func (l Loader) Pin(name string, pinned bool) error {
	s, err := l.loadable(name, "pin")
	if err != nil {
		return err
	}
	s.Demand.Pin(pinned)
	l.Log.Info().Str("server", name).Bool("pinned", pinned).Msg("an operator has set whether the model stays once it is loaded")
	return nil
}

// loadable returns a server whose model an operator may load and unload.
func (l Loader) loadable(name, command string) (Server, error) {
	if name == "" {
		return Server{}, errors.New("the body needs a server")
	}
	s, err := l.Find(name)
	if err != nil || s.OnDemand {
		return s, err
	}
	switch command {
	case "load":
		return Server{}, fmt.Errorf("%s is always loaded, since it has no load: on_demand in the configuration", name)
	case "pin":
		return Server{}, fmt.Errorf("%s is always loaded, and never unloaded for another model: it cannot be pinned or unpinned", name)
	}
	return Server{}, fmt.Errorf("%s is always loaded; set load: on_demand for it in the configuration and run llmsup reload, or take it out of use with llmsup drain %s", name, name)
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
func (l Loader) followLoad(ctx context.Context, s Server, emit func(step, text string) error) error {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		pending := s.Demand.Pending() // before the state, which changes first
		now := s.Process.Snapshot()
		text := stateText(now)
		switch {
		case now.State.Alive():
			return emit(control.StepLoaded, s.Name+" is loaded, and is "+text)
		case now.DrainRequested:
			return emit(control.StepFailed, s.Name+" was drained; llmsup resume "+s.Name+" ends that")
		case !pending && (now.State == supervisor.Failed || now.State == supervisor.Unloaded), now.State == supervisor.Stopped:
			return emit(control.StepFailed, s.Name+" is not loaded: "+text)
		}
		if err := emit(control.StepStarting, text); err != nil {
			return err
		}
		if !follow(ctx, s, now, tick) {
			return nil
		}
	}
}

// Unload unloads a server's model once its calls have ended, and emits the steps until its VRAM is
// free.
func (l Loader) Unload(ctx context.Context, how control.UnloadRequest, emit func(control.Step) error) error {
	s, err := l.loadable(how.Server, "unload")
	if err != nil {
		return err
	}
	if now := s.Process.Snapshot(); now.DrainRequested {
		return fmt.Errorf("%s is drained; after llmsup resume %s it is as before the drain", s.Name, s.Name)
	} else if now.State != supervisor.Unloaded || s.Demand.Pending() { // a load that waits ends
		s.Demand.Unload(how.Now)
	}
	return l.followUnload(ctx, s, stepEmitter(s.Name, emit))
}

// followUnload emits the states of a server until it is unloaded and its VRAM is free.
func (l Loader) followUnload(ctx context.Context, s Server, emit func(step, text string) error) error {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	unloading := false
	for {
		now, figures := s.Process.Snapshot(), l.Figures(s.Name)
		unloading = unloading || now.UnloadRequested
		switch {
		case now.State == supervisor.Unloaded && !figures.Reclaiming:
			return emit(control.StepUnloaded, s.Name+" is unloaded; "+afterUnload(figures))
		case now.State == supervisor.Stopped:
			return emit(control.StepFailed, s.Name+" is "+stateText(now))
		case unloading && !now.UnloadRequested && !now.DrainRequested: // a call has come meanwhile
			return emit(control.StepUnloaded, s.Name+" was unloaded, and a call loads it again")
		}
		if calls := l.Calls(s.Name); now.State == supervisor.Unloading {
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
func follow(ctx context.Context, s Server, now *supervisor.Snapshot, tick *time.Ticker) bool {
	select {
	case <-ctx.Done(): // the client closed the connection
		return false
	case <-s.Context.Done(): // llmsup stops, or a reload has removed the server
		return s.Process.Snapshot() != now // the last state says why
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
