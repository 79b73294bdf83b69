package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleetconfig"
)

// sharedConfig returns what the fleet defines, as this box has it.
func (f *findings) sharedConfig(stateDir string) (*config.Shared, error) {
	shared, err := fleetconfig.Saved(stateDir)
	if errors.Is(err, fs.ErrPermission) {
		f.warn("fleet: what the fleet defines for this box is not checked: %s; run the command as root, or as the user that llmsup runs as", err)
		return nil, nil
	}
	return shared, err
}

// fleet checks whether the box can join its fleet. A daemon that runs already knows.
func (f *findings) fleet(ctx context.Context, cfg *config.Config, running *control.Status) {
	if !cfg.Fleet.Enabled() {
		return
	}
	if warning := cfg.Fleet.Warning(); warning != "" {
		f.warn("fleet: %s", warning)
	}
	if cfg.Shared != nil {
		f.ok("fleet: version %d of its configuration defines %s%s", cfg.Shared.Version, strings.Join(cfg.Shared.Sections, ", "), replaced(cfg.Replaced()))
	}
	f.advertised(cfg)
	found, err := fleet.Probe(ctx, cfg.Fleet)
	if err == nil {
		defer f.reach(ctx, cfg.Fleet, found)
		defer f.targets(cfg, running, found)
	}
	own := running != nil && running.Fleet != nil && running.Fleet.Box == cfg.Fleet.BoxName()
	switch {
	case err != nil:
		f.fail(fmt.Errorf("fleet: %w", err))
	case own && running.Fleet.Problem != "":
		f.fail(fmt.Errorf("fleet: %s", running.Fleet.Problem))
	case own && running.Fleet.Configuration != nil && running.Fleet.Configuration.Problem != "":
		f.fail(fmt.Errorf("fleet: %s", running.Fleet.Configuration.Problem))
	case found.Taken != nil && !(own && running.Fleet.Joined):
		f.fail(fmt.Errorf("fleet: another box at %s has the name %s; set another fleet.name for one of them", found.Taken.Address, found.Taken.Name))
	case len(found.Foreign) > 0:
		f.warn("fleet: boxes with another fleet's key: %s; every box of a fleet needs the same key in its key_file, and a second fleet a NATS account of its own", strings.Join(found.Foreign, ", "))
	case len(found.Boxes) == 0:
		f.ok("fleet: this box is %s, and NATS works; no other box announces itself with this key", cfg.Fleet.BoxName())
	default:
		f.ok("fleet: this box is %s; others: %s", cfg.Fleet.BoxName(), strings.Join(names(found.Boxes), ", "))
	}
}

func names(boxes []fleet.Peer) (all []string) {
	for _, b := range boxes {
		all = append(all, b.Name)
	}
	return all
}

// replaced says which sections of llmsup.yaml are not used, since the fleet defines them.
func replaced(sections []string) string {
	if len(sections) == 0 {
		return ""
	}
	return "; " + strings.Join(sections, " and ") + " of llmsup.yaml are not used"
}
