package daemon

import (
	"slices"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/supervisor"
)

// Reload implements control.Daemon: it reads the configuration anew and puts it
// in the place of the present one, whole or not at all. Routes, upstreams and
// limits hold for the next call; calls that have begun end as they began. A
// server whose command line is another one now is replaced when its calls have
// ended, the others are left alone; one that has failed is tried again. It
// returns what has changed, a line each.
func (d *Daemon) Reload() ([]string, error) {
	<-d.started
	d.notifyMu.Lock()
	defer d.notifyMu.Unlock()
	d.logNotifyError(d.opts.Systemd.Reloading())
	defer func() { d.logNotifyError(d.opts.Systemd.Ready("")) }()
	changes, err := d.reload()
	d.notifyReloadError(err)
	if err != nil {
		d.log.Error().Err(err).Msg("reload refused; the old configuration stays")
		return nil, err
	}
	if len(changes) == 0 {
		d.log.Info().Msg("reloaded; nothing has changed")
	}
	for _, line := range changes {
		d.log.Info().Msg("reloaded: " + line)
	}
	return changes, nil
}

func (d *Daemon) reload() ([]string, error) {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	// Files are read without what a stop needs: a disk may not answer.
	setup, err := d.opts.LoadSetup()
	if err != nil {
		return nil, err
	}
	level, err := zerolog.ParseLevel(setup.Config.LogLevel)
	if err != nil {
		return nil, err
	}

	d.fleetMu.Lock()
	defer d.fleetMu.Unlock()
	if d.stopping {
		return nil, maintenance.ErrStopping
	}
	old := d.setup.Config
	if err := setup.Config.CheckReloadable(old); err != nil {
		return nil, err
	}
	if err := CheckKeyRoutes(setup.Config, old); err != nil {
		return nil, err
	}
	planned := d.plan(setup)
	routing, err := d.routing(setup.Config, planned.fleet)
	if err != nil {
		return nil, err
	}
	if err := d.router.Reload(routing); err != nil {
		return nil, err
	}

	// From here on nothing can be refused.
	zerolog.SetGlobalLevel(level)
	words := keyChanges(d.upstreams, routing.Upstreams)
	d.setup, d.upstreams = setup, routing.Upstreams
	d.accounting.applyConfig(setup.Config, routing.Upstreams)
	d.group.Go(d.findLoops)
	d.shutdownGrace.Store(int64(setup.Config.ShutdownGrace))
	d.setFleet(planned.fleet)
	d.maintenance.FleetChanged()
	return append(append(d.apply(planned), setup.Config.Changes(old)...), words...), nil
}

// apply tells the servers what a reload means for them, and says so. The caller
// holds changing.
func (d *Daemon) apply(planned fleetChange) (words []string) {
	cfg := d.setup.Config
	spec := func(s *managedServer) supervisor.Spec {
		s.workload.ApplyConfig(cfg.Servers[s.name], cfg)
		s.streams.Store(engine.Capabilities(cfg.Servers[s.name].Args).CompleteStreams)
		return d.spec(s.name, s.launch, s.workload, cfg)
	}
	for _, s := range planned.added {
		words = append(words, "server "+s.name+": added, and starting")
		d.start(s)
	}
	for _, s := range planned.replaced {
		words = append(words, "server "+s.name+": changed; its process is replaced when its calls have ended")
		s.server.Reconfigure(spec(s))
	}
	for _, s := range planned.removed {
		words = append(words, "server "+s.name+": removed; it ends when its calls have")
		s.server.Remove()
		d.maintenance.ServerRemoved(d.maintained(s))
		d.group.Go(func() { d.awaitRemoved(s) })
	}
	for _, s := range planned.stayed {
		// Timeouts, and the keys that its process may not see.
		s.server.UpdateSpec(spec(s))
		if s.server.Snapshot().State == supervisor.Failed {
			words = append(words, "server "+s.name+": had failed, and is started again")
			s.server.Restart()
		}
	}
	return words
}

// keyChanges says which upstreams that are there before and after have another
// key, whatever the configuration says.
func keyChanges(before, after []router.Upstream) (words []string) {
	for _, b := range after {
		i := slices.IndexFunc(before, func(a router.Upstream) bool { return a.Name == b.Name })
		switch {
		case i < 0 || before[i].Key == b.Key:
		case b.Missing != "":
			words = append(words, "upstream "+b.Name+": has no key any more, so no call can go there; "+b.Missing)
		default:
			words = append(words, "upstream "+b.Name+": its key has changed")
		}
	}
	return words
}
