package maintenance

import (
	"context"

	"github.com/llmsup/llmsup/supervisor"
)

// Servers is all servers of the box, and what depends on their drains.
type Servers interface {
	// All returns the servers sorted by name, including those that a reload has
	// removed and that have not ended yet.
	All() []Server
	// Find returns the servers with these names; nil = all. An unknown name is an error.
	Find(names []string) ([]Server, error)
	// RoutesWithoutFallback returns the routes without a backend while these servers are
	// drained.
	RoutesWithoutFallback(drained []string) (routes []string)
	// ReleaseDriver closes the GPU's driver, or allows it to be opened again.
	ReleaseDriver(release bool)
}

// Server is one of the servers of the box.
type Server struct {
	Name    string
	Removed bool // by a reload; it ends when its calls have ended
	Process Process
	VRAM    VRAM
	Load    func() Load
	Context context.Context //nolint:containedctx // it ends when the removed server has ended, or llmsup stops
}

// Load is the calls that a server has.
type Load struct{ Calls, Queued int }

// Process is what maintenance needs of a *supervisor.Server.
type Process interface {
	Snapshot() *supervisor.Snapshot
	Drain(supervisor.DrainOptions)
	Resume()
	Restart()
	Verify(context.Context) error // nil = it has answered a test call
}

// VRAM reports the VRAM of a server's process after its end, from the GPUs' samples.
type VRAM interface {
	// Held returns what the last process held; problem is why that is unknown, or that
	// it held nothing.
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
