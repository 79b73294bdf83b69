package config

import (
	"maps"
	"slices"
	"time"
)

// The values of Server.Load.
const (
	LoadAlways   = "always"    // the server starts with llmsup
	LoadOnDemand = "on_demand" // a call starts it
)

// maxIdleUnload limits Server.IdleUnload.
const maxIdleUnload = 30 * 24 * time.Hour

// OnDemand reports whether the server is started by a call that needs it, and stopped when
// another model needs its VRAM.
func (s Server) OnDemand() bool { return s.Load == LoadOnDemand }

// WithoutLoading returns the server without the settings that decide when it is loaded, which
// change nothing about its process.
func (s Server) WithoutLoading() Server {
	s.Load, s.IdleUnload, s.Pinned, s.VRAM = "", 0, false, 0
	return s
}

// loadingChanges describes the servers whose settings of WithoutLoading differ, in a line each.
func loadingChanges(before, after map[string]Server) (changes []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		a, b := before[name], after[name]
		if _, known := before[name]; !known || a.OnDemand() == b.OnDemand() && a.IdleUnload == b.IdleUnload && a.Pinned == b.Pinned && a.VRAM == b.VRAM {
			continue
		}
		changes = append(changes, "server "+name+": changed when it is loaded, or the VRAM that it is assumed to need")
	}
	return changes
}

func (c *Config) validateOnDemand(name string, s Server) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"servers", name, field}, format, args...)
	}
	const onDemandOnly = "applies only with load: on_demand; add that, or remove this"
	switch {
	case s.Load != "" && s.Load != LoadAlways && s.Load != LoadOnDemand:
		return at("load", "%s is neither always nor on_demand", QuoteSafe(s.Load))
	case !s.OnDemand() && c.positions.has("servers", name, "idle_unload"):
		return at("idle_unload", onDemandOnly)
	case s.Pinned && !s.OnDemand():
		return at("pinned", onDemandOnly)
	case s.OnDemand() && s.IdleUnload != 0 && (s.IdleUnload < time.Second || s.IdleUnload > maxIdleUnload):
		return at("idle_unload", "%s is neither 0s (never) nor between 1s and 720h", s.IdleUnload)
	}
	return nil
}
