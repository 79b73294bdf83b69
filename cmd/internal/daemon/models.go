package daemon

import (
	"context"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/loading"
)

// Models implements control.Daemon.
func (d *Daemon) Models() []control.Model { return d.report.Models() }

// Load implements control.Daemon.
func (d *Daemon) Load(ctx context.Context, name string, emit func(control.Step) error) error {
	<-d.started
	return d.loader().Load(ctx, name, emit)
}

// Unload implements control.Daemon.
func (d *Daemon) Unload(ctx context.Context, how control.UnloadRequest, emit func(control.Step) error) error {
	<-d.started
	return d.loader().Unload(ctx, how, emit)
}

// Pin sets whether a server's model stays once it is loaded, as `pinned` of the configuration
// does, until llmsup restarts or a reload changes that.
func (d *Daemon) Pin(name string, pinned bool) error { return d.loader().Pin(name, pinned) }

func (d *Daemon) loader() loading.Loader {
	return loading.Loader{
		Find: func(name string) (loading.Server, error) {
			found, err := d.find([]string{name})
			if err != nil {
				return loading.Server{}, err
			}
			s := found[0]
			return loading.Server{Name: s.name, OnDemand: s.loading.OnDemand, Process: s.server, Demand: s.demand, Context: s.ctx}, nil
		},
		Figures: d.ondemand.Figures, Calls: func(name string) int { return d.router.Load(name).Calls }, Log: d.log,
	}
}
