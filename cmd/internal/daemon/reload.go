package daemon

import (
	"errors"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/supervisor"
)

// Reload implements control.Source: it reads the configuration anew and puts it
// in the place of the present one, whole or not at all. Routes, upstreams and
// limits hold for the next call; calls that have begun end as they began. A
// server whose command line is another one now is replaced when its calls have
// ended, the others are left alone; one that has failed is tried again. It
// returns what has changed, a line each.
func (d *Daemon) Reload() ([]string, error) {
	changes, err := d.reload()
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
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return nil, errors.New("llmsup is stopping")
	}
	setup, err := d.opts.Again()
	if err != nil {
		return nil, err
	}
	old := d.setup.Config
	if err := setup.Config.Fixed(old); err != nil {
		return nil, err
	}
	level, err := zerolog.ParseLevel(setup.Config.LogLevel)
	if err != nil {
		return nil, err
	}
	planned, err := d.plan(setup)
	if err != nil {
		return nil, err
	}
	routing, err := d.routing(setup.Config, planned.fleet)
	if err != nil {
		return nil, err
	}
	if err := d.router.Reload(routing); err != nil {
		return nil, err
	}

	// From here on nothing can be refused.
	zerolog.SetGlobalLevel(level)
	d.fleet.Store(&planned.fleet)
	d.setup = setup
	return append(d.apply(planned), setup.Config.Changes(old)...), nil
}

// apply tells the servers what a reload means for them, and says so.
func (d *Daemon) apply(planned change) (words []string) {
	for _, s := range planned.added {
		words = append(words, "server "+s.name+": added, and starting")
		d.start(s)
	}
	for _, s := range planned.replaced {
		words = append(words, "server "+s.name+": changed; its process is replaced when its calls have ended")
		s.server.Reconfigure(d.spec(s.name, s.command, d.setup.Config))
	}
	for _, s := range planned.removed {
		words = append(words, "server "+s.name+": removed; it ends when its calls have")
		s.server.Retire()
	}
	for _, s := range planned.stayed {
		if s.server.Snapshot().State == supervisor.Failed {
			words = append(words, "server "+s.name+": had failed, and is started again")
			s.server.Restart()
		}
	}
	return words
}
