package serverreport

import (
	"fmt"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/readiness"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/process"
)

// addLoad adds to a server's status how far its model is loaded, and which calls wait for it.
func addLoad(s *control.Server, now *supervisor.Snapshot, f ondemand.Figures, traffic plan.Load, clock time.Time) {
	s.WaitingForModel, s.WaitingSince = traffic.ForModel, known(traffic.ForModelSince)
	s.ReadyExpected, s.LoadsInSeconds = readiness.Expected(now, f, clock), known(f.LoadsIn(now, clock).Seconds())
	if load := readiness.LoadTime(now, f); s.ReadyExpected != nil && now.State == supervisor.Loading {
		s.LoadProgress = new(1 - s.ReadyExpected.Sub(clock).Seconds()/load.Seconds())
	}
}

// addReading makes how much of its file has been read the reason of a server that loads its model
// for an unknown time. That is no share of the time: what follows takes half of the time of a file
// that is read fast, and little of that of one on a slow disk.
func addReading(s *control.Server, m Server) {
	if s.State != supervisor.Loading.String() || s.Reason != "" || s.LoadProgress != nil {
		return
	}
	if size := m.Workload.FileSize(); size > 0 {
		pids, _ := m.Process.Processes()
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
