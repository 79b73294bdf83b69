package maintenance

import (
	"context"

	"github.com/llmsup/llmsup/supervisor"
)

// Fleet is all servers, and what depends on which of them are drained.
type Fleet interface {
	// Servers returns the servers sorted by name, with those that a reload has removed
	// and that have not ended yet.
	Servers() []Server
	// Find returns the servers of some names; nil = all. An unknown name is an error.
	Find(names []string) ([]Server, error)
	// Stranded returns the routes that have no backend while these servers are drained.
	Stranded(drained []string) (routes []string)
	// ReleaseDriver closes the GPU's driver, or allows it to be opened again.
	ReleaseDriver(release bool)
}

// Server is one server of the fleet.
type Server struct {
	Name    string
	Removed bool // by a reload; it ends when its calls have
	Process Process
	VRAM    VRAM
	Load    func() Load
	Context context.Context //nolint:containedctx // it ends when the server is removed for good, or llmsup stops
}

// Load is the calls that a server has.
type Load struct{ Calls, Queued int }

// Process is what a *supervisor.Server does for maintenance.
type Process interface {
	Snapshot() *supervisor.Snapshot
	Drain(supervisor.DrainOptions)
	Resume()
	Restart()
	Verify(context.Context) error // nil = it has answered a completion
}

// VRAM is what the GPUs' samples show of a server's process after its end.
type VRAM interface {
	// Held is what the last process held; problem is why that is unknown, or that it
	// held nothing.
	Held() (held, problem string)
	// UnreclaimedVRAM describes what the driver has not released yet; "" = nothing.
	UnreclaimedVRAM() string
}

func namesOf(servers []Server) []string {
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.Name)
	}
	return names
}
