package ondemand

import (
	"time"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/supervisor"
)

// minLeft is the shortest time that is announced of a model that is not loaded.
const minLeft = time.Second

// LoadsIn returns after what time a server's model would answer, if a call came for it now; 0 = it
// is loaded, or would have to wait for other models' calls, or for an unknown time. now is the
// state of the server.
func (f Figures) LoadsIn(now *supervisor.Snapshot, clock time.Time) time.Duration {
	if now.DrainRequested || now.Removed {
		return 0
	}
	switch now.State {
	case supervisor.Unloaded:
		return f.loadsIn
	case supervisor.Starting:
		if now.Reason != "" || f.Wait != nil { // it waits for VRAM, or for its file
			return 0
		}
		return max(f.expected, minLeft)
	case supervisor.Loading: // one that takes longer than expected is expected to take as long again
		return max((f.expected - clock.Sub(now.Since)).Abs(), minLeft)
	default:
		return 0
	}
}

// findLoadsIn finds out what LoadsIn returns of the models that are unloaded.
func (o *Owner) findLoadsIn(s scheduler.State) {
	for _, m := range o.models {
		m.loadsIn = 0
		if !m.OnDemand || m.now.State != supervisor.Unloaded {
			continue
		}
		if d, ok := scheduler.LoadsIn(s, m.Name); ok {
			m.loadsIn = max(d, minLeft)
		}
	}
}
