package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// fleet checks whether the box can join its fleet. A daemon that runs already knows.
func (f *findings) fleet(ctx context.Context, cfg *config.Config, running *control.Status) {
	if !cfg.Fleet.Enabled() {
		return
	}
	if warning := cfg.Fleet.Warning(); warning != "" {
		f.warn("fleet: %s", warning)
	}
	boxes, taken, err := fleet.Probe(ctx, cfg.Fleet)
	own := running != nil && running.Fleet != nil && running.Fleet.Box == cfg.Fleet.BoxName()
	switch {
	case err != nil:
		f.fail(fmt.Errorf("fleet: %w", err))
	case own && running.Fleet.Problem != "":
		f.fail(fmt.Errorf("fleet: %s", running.Fleet.Problem))
	case taken != nil && !(own && running.Fleet.Joined):
		f.fail(fmt.Errorf("fleet: another box at %s has the name %s; set another fleet.name for one of them", taken.Address, taken.Name))
	case len(boxes) == 0:
		f.ok("fleet: this box is %s, and NATS works; no other box announces itself with this key", cfg.Fleet.BoxName())
	default:
		f.ok("fleet: this box is %s; others: %s", cfg.Fleet.BoxName(), strings.Join(boxes, ", "))
	}
}
