package daemon

import (
	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/config"
)

// sharedBox implements fleetconfig.Box.
type sharedBox struct{ d *Daemon }

// Config implements fleetconfig.Box.
func (b sharedBox) Config() *config.Config { return b.d.running.Load() }

// Check implements fleetconfig.Box.
func (b sharedBox) Check(s *config.Shared) error {
	now := b.Config()
	setup, err := b.d.opts.LoadSetup(now.Text, s)
	if err != nil {
		return err
	}
	if err := setup.Config.CheckReloadable(now); err != nil {
		return err
	}
	return accounting.CheckKeyRoutes(setup.Config, now)
}

// Apply implements fleetconfig.Box. It notifies systemd of nothing: that holds a lock which is
// held, too, while the box leaves its fleet and waits for this to end.
func (b sharedBox) Apply(s *config.Shared) error {
	changes, err := b.d.reload(b.Config().Text, s)
	for _, line := range changes {
		b.d.log.Info().Msg("from the fleet: " + line)
	}
	return err
}
