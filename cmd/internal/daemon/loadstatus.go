package daemon

import (
	"cmp"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/process"
)

// addLoad adds to a server's status how far its model is loaded, and which calls wait for it.
func addLoad(s *control.Server, now *supervisor.Snapshot, f ondemand.Figures, traffic router.Load, clock time.Time) {
	s.WaitingForModel, s.WaitingSince = traffic.ForModel, known(traffic.ForModelSince)
	s.ReadyExpected, s.LoadsInSeconds = readyExpected(now, f, clock), known(f.LoadsIn(now, clock).Seconds())
	if load := measuredLoad(now, f); s.ReadyExpected != nil && now.State == supervisor.Loading {
		s.LoadProgress = new(1 - s.ReadyExpected.Sub(clock).Seconds()/load.Seconds())
	}
}

// addReading makes how much of its file has been read the reason of a server that loads its model
// for an unknown time. That is no share of the time: what follows takes half of the time of a file
// that is read fast, and little of that of one on a slow disk.
func addReading(s *control.Server, m *managedServer) {
	if s.State != supervisor.Loading.String() || s.Reason != "" || s.LoadProgress != nil {
		return
	}
	if size := m.workload.FileSize(); size > 0 {
		pids, _ := m.server.Processes()
		s.Reason = reading(process.FileBytes(pids), size)
	}
}

// reading says how many bytes of a file of a size have been read.
func reading(read, size uint64) string {
	switch {
	case read == 0:
		return "" // not known
	case read < size:
		return fmt.Sprintf("%s of the model's %s are read", gpu.Size(read), gpu.Size(size))
	}
	return fmt.Sprintf("all of the model's %s are read", gpu.Size(size))
}

// measuredLoad returns how long a load of the server's model takes; 0 = it has not been
// measured.
func measuredLoad(now *supervisor.Snapshot, f ondemand.Figures) time.Duration {
	return cmp.Or(f.LoadTime, now.LoadDuration)
}

// readyExpected returns when a server that accepts no calls is expected to accept them; nil
// = unknown, it does, or it waits for a call or an operator. The Retry-After of an error is
// a guess where this is unknown.
func readyExpected(now *supervisor.Snapshot, f ondemand.Figures, clock time.Time) *time.Time {
	load := measuredLoad(now, f)
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
