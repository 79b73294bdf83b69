package daemon

import (
	"context"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
)

// Drain implements control.Daemon.
func (d *Daemon) Drain(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
	<-d.started
	return d.maintenance.Drain(ctx, how, emit)
}

// Resume implements control.Daemon.
func (d *Daemon) Resume(ctx context.Context, names []string, emit func(control.Step) error) error {
	<-d.started
	return d.maintenance.Resume(ctx, names, emit)
}

// Restart implements control.Daemon.
func (d *Daemon) Restart(names []string) (control.Restarting, error) {
	<-d.started
	return d.maintenance.Restart(names)
}

// maintainedServers is the daemon's servers as package maintenance uses them.
type maintainedServers struct{ d *Daemon }

// All implements maintenance.Servers.
func (m maintainedServers) All() []maintenance.Server { return m.d.allMaintained(m.d.servers()) }

// Find implements maintenance.Servers.
func (m maintainedServers) Find(names []string) ([]maintenance.Server, error) {
	found, err := m.d.find(names)
	return m.d.allMaintained(found), err
}

// RoutesWithoutFallback implements maintenance.Servers.
func (m maintainedServers) RoutesWithoutFallback(drained []string) []string {
	return m.d.router.RoutesWithoutFallback(drained)
}

// ReleaseDriver implements maintenance.Servers.
func (m maintainedServers) ReleaseDriver(release bool) { m.d.monitor.Suspend(release) }

func (d *Daemon) allMaintained(servers []*managedServer) []maintenance.Server {
	all := make([]maintenance.Server, 0, len(servers))
	for _, s := range servers {
		all = append(all, d.maintained(s))
	}
	return all
}

func (d *Daemon) maintained(s *managedServer) maintenance.Server {
	return maintenance.Server{
		Name: s.name, Removed: s.removed, Process: s.server, VRAM: s.workload, Context: s.ctx,
		Load: func() maintenance.Load {
			now := d.router.Load(s.name)
			return maintenance.Load{Calls: now.Calls, Queued: now.Queued}
		},
	}
}
