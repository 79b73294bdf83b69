// Package readiness says whether a supervised server answers calls, and if not, when it will: for
// the router, and for the status. The daemon makes an Adapter for each server.
package readiness

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/supervisor"
)

// Adapter is a supervised server as the router sees it: its state becomes a reason to use another
// backend, or none. Two Adapters of the same server are equal.
type Adapter struct {
	Server       *supervisor.Server
	Capabilities *atomic.Pointer[models.Capabilities] // of the engine as it is configured now
	Demand       *ondemand.Demand
	Owner        *ondemand.Owner
}

// Engine implements backend.Local.
func (a Adapter) Engine() *models.Capabilities { return a.Capabilities.Load() }

// BusySlots implements backend.Local.
func (a Adapter) BusySlots(ctx context.Context) (int, error) { return a.Server.BusySlots(ctx) }

// AddDemand implements backend.Local.
func (a Adapter) AddDemand(waits bool) { a.Demand.Add(waits) }

// State implements backend.Local.
func (a Adapter) State() backend.LocalState {
	now := a.Server.Snapshot()
	s := backend.LocalState{
		Reason: reasonOf(now), Alive: now.State.Alive(),
		Status: now.State.String(), Description: now.Description,
		Network: now.Endpoint.Network, Address: now.Endpoint.Address, Key: now.Endpoint.Key,
		Gone: now.Exited, Hung: now.Hung, Slots: now.Slots, Changed: now.Changed, SupportsAggregation: a.Engine().CompleteStreams,
	}
	if s.Reason != "" {
		s.Detail = "is " + now.State.String()
		if now.Reason != "" {
			s.Detail += ": " + now.Reason
		}
	}
	if s.Reason != "" && !s.Alive {
		figures, clock := a.Owner.Figures(now.Name), time.Now()
		s.OnDemand, s.LoadsIn = figures.OnDemand, figures.LoadsIn(now, clock)
		s.Returning, s.ReadyAt = returning(now), readyAt(now, cmp.Or(now.LoadDuration, figures.LoadTime), clock)
		if s.Reason == backend.Starting && figures.Wait != nil { // for its model to be downloaded
			s.ReadyAt = figures.Wait.Ready
		}
		if s.Reason == backend.Unloaded {
			s.Returning, s.ReadyAt = unloaded(figures, s.Returning, clock)
		}
	}
	return s
}

// unknownWait is the time after which a client should call again, if a model waits for VRAM and
// when that will be free is unknown. Calls that wait for the model do not depend on it.
const unknownWait = 30 * time.Second

// unloaded returns whether a model that is not loaded will be, if a call needs it, and when.
func unloaded(f ondemand.Figures, returning bool, clock time.Time) (bool, time.Time) {
	switch {
	case !returning || f.Wait != nil && f.Wait.Never:
		return false, time.Time{}
	case f.Wait != nil && !f.Wait.Ready.IsZero():
		return true, f.Wait.Ready
	case f.Wait != nil: // nothing says when its load begins, and so the time of the load alone would be too short
		return true, clock.Add(unknownWait)
	case f.LoadTime > 0:
		return true, clock.Add(f.LoadTime)
	}
	return true, time.Time{}
}

// reasonOf returns why a server gets no calls; "" = it gets them.
func reasonOf(now *supervisor.Snapshot) backend.Reason {
	switch now.State {
	case supervisor.Ready:
		return ""
	case supervisor.Degraded:
		return backend.Degraded
	case supervisor.Starting:
		return backend.Starting
	case supervisor.Loading:
		return backend.Loading
	case supervisor.Restarting:
		return backend.Restarting
	case supervisor.Draining:
		return backend.Draining
	case supervisor.Drained:
		return backend.Drained
	case supervisor.Stopped:
		if returning(now) {
			return backend.Starting
		}
		return backend.Drained
	case supervisor.Unloaded, supervisor.Unloading:
		return backend.Unloaded
	case supervisor.Failed:
		return backend.Failed
	}
	return backend.Failed
}

// returning reports whether a server that accepts no calls will do so without an operator:
// it starts, or its process is replaced. A drained, failed or removed server will not. A
// stopped one is about to start.
func returning(now *supervisor.Snapshot) bool {
	return !now.DrainRequested && !now.Removed && now.State != supervisor.Failed
}

// readyAt estimates when a server accepts calls again; zero = unknown. load is how long a load
// takes; 0 = unknown.
func readyAt(now *supervisor.Snapshot, load time.Duration, clock time.Time) time.Time {
	switch {
	case now.DrainRequested && !now.DrainEnds.IsZero():
		return now.DrainEnds.Add(load)
	case !returning(now):
		return time.Time{}
	case now.State == supervisor.Restarting && now.NextStart.After(clock):
		return now.NextStart.Add(load)
	case now.State == supervisor.Loading && load == 0: // as long again as it has taken so far
		return clock.Add(clock.Sub(now.Since))
	case load == 0:
		return time.Time{}
	case now.State == supervisor.Loading:
		return now.Since.Add(load)
	}
	return clock.Add(load)
}

// LoadTime returns how long a load of the server's model takes; 0 = it has not been
// measured.
func LoadTime(now *supervisor.Snapshot, f ondemand.Figures) time.Duration {
	return cmp.Or(f.LoadTime, now.LoadDuration)
}

// Expected returns when a server that accepts no calls is expected to accept them; nil
// = unknown, it does, or it waits for a call or an operator. The Retry-After of an error is
// a guess where this is unknown.
func Expected(now *supervisor.Snapshot, f ondemand.Figures, clock time.Time) *time.Time {
	load := LoadTime(now, f)
	var at time.Time
	switch now.State {
	case supervisor.Unloaded, supervisor.Unloading:
		if f.Wait != nil {
			at = f.Wait.Ready
		}
	case supervisor.Starting:
		if f.Wait != nil { // for its model to be downloaded
			at = f.Wait.Ready
		} else if load > 0 && now.Reason == "" { // otherwise it waits for VRAM
			at = readyAt(now, load, clock)
		}
	case supervisor.Loading, supervisor.Restarting, supervisor.Draining, supervisor.Drained:
		ends := now.State == supervisor.Draining && !now.DrainRequested
		if load > 0 && !ends {
			at = readyAt(now, load, clock)
		}
	case supervisor.Stopped, supervisor.Ready, supervisor.Degraded, supervisor.Failed:
	}
	if !at.After(clock) { // it takes longer than before
		return nil
	}
	return &at
}
