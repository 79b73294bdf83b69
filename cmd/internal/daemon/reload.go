package daemon

import (
	"slices"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/supervisor"
)

// Reload implements control.Daemon. It reloads the configuration atomically. Routes,
// upstreams and limits apply from the next call on; running calls are not affected. A
// server whose command line has changed gets a new process when its calls have ended; a
// failed server is started again; other servers are not affected. It returns a line for
// each change.
func (d *Daemon) Reload() ([]string, error) {
	<-d.started
	d.notifyMu.Lock()
	defer d.notifyMu.Unlock()
	defer d.notifier.Reloading()()
	var changes []string
	err := d.shared.Reload(func(s *config.Shared) (inFleet bool, err error) {
		changes, err = d.reload(nil, s)
		return d.running.Load().Fleet.Enabled(), err
	})
	d.notifier.SetReloadError(err)
	if err != nil {
		d.log.Error().Err(err).Msg("reload rejected; the old configuration stays")
		return nil, err
	}
	if d.applyFleet() {
		changes = append(changes, "fleet: the key_file, credentials_file or ca_file has another content; the box joins again")
	}
	if len(changes) == 0 {
		d.log.Info().Msg("reloaded; nothing has changed")
	}
	for _, line := range changes {
		d.log.Info().Msg("reloaded: " + line)
	}
	return changes, nil
}

// applyFleet joins the configured fleet, or leaves it. It holds no lock: to leave takes up to a
// second. It reports whether only the files of the fleet have changed.
func (d *Daemon) applyFleet() (otherFiles bool) {
	d.serversMu.Lock()
	settings := d.setup.Config.Fleet
	d.serversMu.Unlock()
	return d.boxes.Apply(settings)
}

func (d *Daemon) reload(text []byte, shared *config.Shared) ([]string, error) {
	d.reloadMu.Lock()
	defer d.reloadMu.Unlock()
	// No lock that a stop needs: reading files may hang.
	setup, err := d.opts.LoadSetup(text, shared)
	if err != nil {
		return nil, err
	}
	level, err := zerolog.ParseLevel(setup.Config.LogLevel)
	if err != nil {
		return nil, err
	}

	d.serversMu.Lock()
	defer d.serversMu.Unlock()
	if d.stopping {
		return nil, maintenance.ErrStopping
	}
	old := d.setup.Config
	if err := setup.Config.CheckReloadable(old); err != nil {
		return nil, err
	}
	if err := accounting.CheckKeyRoutes(setup.Config, old); err != nil {
		return nil, err
	}
	planned := d.plan(setup)
	routing, err := d.routing(setup.Config, planned.servers)
	if err != nil {
		return nil, err
	}
	if err := d.router.Reload(routing); err != nil {
		return nil, err
	}

	// From here on nothing can fail.
	zerolog.SetGlobalLevel(level)
	setup.logWarnings(d.log)
	keyLines := keyChanges(d.upstreams, routing.Upstreams)
	d.setup, d.upstreams = setup, routing.Upstreams
	d.running.Store(setup.Config)
	d.accounting.ApplyConfig(setup.Config, routing.Upstreams)
	d.group.Go(d.findLoops)
	d.shutdownGrace.Store(int64(setup.Config.ShutdownGrace))
	d.setServers(planned.servers)
	d.needModels(setup.Config)
	d.page.Enable(setup.Config.Page.Enabled)
	d.maintenance.ServersChanged()
	return slices.Concat(d.apply(planned), setup.Config.Changes(old), keyLines, d.endpoint.applyReload(setup)), nil
}

// apply applies a reload to the servers, and returns a line for each change. The caller
// holds serversMu.
func (d *Daemon) apply(planned serverChanges) (lines []string) {
	cfg := d.setup.Config
	spec := func(s *managedServer) supervisor.Spec {
		s.workload.ApplyConfig(located(s.name, cfg), cfg)
		s.applyConfig(cfg.Servers[s.name])
		return d.spec(s.name, s.launch, s.workload, cfg)
	}
	for _, s := range planned.added {
		if s.loading.OnDemand {
			lines = append(lines, "server "+s.name+": added; "+ondemand.OnCall)
		} else {
			lines = append(lines, "server "+s.name+": added, and starting")
		}
		d.start(s)
	}
	for _, s := range planned.replaced {
		lines = append(lines, "server "+s.name+": changed; its process is replaced when its calls have ended")
		s.server.Reconfigure(spec(s))
	}
	for _, s := range planned.removed {
		lines = append(lines, "server "+s.name+": removed; it ends when its calls have")
		s.server.Remove()
		d.maintenance.ServerRemoved(d.maintained(s))
		d.group.Go(func() { d.awaitRemoved(s) })
	}
	for _, s := range planned.stayed {
		// Timeouts, and the variables that its process must not see.
		s.server.UpdateSpec(spec(s))
		switch failed := s.server.Snapshot().State == supervisor.Failed; {
		case failed && s.loading.OnDemand:
			lines = append(lines, "server "+s.name+": had failed; "+ondemand.OnCall)
			s.server.Unload(supervisor.DrainOptions{Reason: ondemand.OnCall})
		case failed:
			lines = append(lines, "server "+s.name+": had failed, and is started again")
			s.server.Restart()
		}
	}
	return lines
}

func (s *Setup) logWarnings(log zerolog.Logger) {
	for _, warning := range s.Warnings {
		log.Warn().Msg(warning)
	}
}

// keyChanges returns a line for each upstream whose key has changed, which the
// configuration itself does not show.
func keyChanges(before, after []backend.UpstreamConfig) (lines []string) {
	for _, b := range after {
		i := slices.IndexFunc(before, func(a backend.UpstreamConfig) bool { return a.Name == b.Name })
		switch {
		case i < 0 || before[i].Key == b.Key:
		case b.Missing != "":
			lines = append(lines, "upstream "+b.Name+": no longer has a key, so no call can go there; "+b.Missing)
		default:
			lines = append(lines, "upstream "+b.Name+": its key has changed")
		}
	}
	return lines
}
