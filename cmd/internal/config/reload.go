package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/llmsup/llmsup/models"
)

// CheckReloadable returns an error if a running daemon with the configuration now cannot
// change to c: some settings are fixed at the start, and only insecure_no_auth, in the
// file or as a flag, allows a reload to remove the last key.
func (c *Config) CheckReloadable(now *Config) error {
	for _, setting := range []struct{ key, now, next string }{
		{"listen", now.Listen, c.Listen},
		{"state_dir", now.StateDir, c.StateDir},
		{"control_socket", now.ControlSocket, c.ControlSocket},
		{"log_format", now.LogFormat, c.LogFormat},
		{"max_connections", strconv.Itoa(now.MaxConnections), strconv.Itoa(c.MaxConnections)},
	} {
		if setting.now != setting.next {
			return c.positions.errorf([]string{setting.key}, "a reload cannot change it; put %q back, or restart llmsup", setting.now)
		}
	}
	if len(now.Keys) > 0 && len(c.Keys) == 0 && !c.InsecureNoAuth {
		if c.Fleet.Enabled() {
			return c.positions.errorf([]string{"keys"}, "neither %s nor the fleet would have keys any more, so that calls would need none; restore a key, or set insecure_no_auth: true in %s on each box", c.File, c.File)
		}
		return c.positions.errorf([]string{"keys"}, "%s no longer has any keys, so this reload would allow unauthenticated calls; restore a key, or set insecure_no_auth: true", c.File)
	}
	if now.TLS.Enabled() != c.TLS.Enabled() {
		return c.positions.errorf([]string{"tls"}, "a reload cannot change between HTTP and HTTPS; restart llmsup for that")
	}
	if (now.GPU.Devices == NoGPU) != (c.GPU.Devices == NoGPU) {
		return c.positions.errorf([]string{"gpu", "devices"}, "a reload cannot turn the reading of GPUs on or off; restart llmsup for that")
	}
	if now.Ledger.Enabled != c.Ledger.Enabled {
		return c.positions.errorf([]string{"ledger", "enabled"}, "a reload cannot turn the ledger on or off; restart llmsup for that")
	}
	return nil
}

// Changes describes each difference between c and old in a line: settings, when servers are
// loaded, budgets, prices, upstreams and routes. The daemon itself compares the rest of the
// servers.
func (c *Config) Changes(old *Config) []string {
	var changes []string
	if c.MaxBody != old.MaxBody {
		changes = append(changes, "max_body: changed")
	}
	if c.LogLevel != old.LogLevel {
		changes = append(changes, "log_level: "+c.LogLevel)
	}
	if c.ShutdownGrace != old.ShutdownGrace {
		changes = append(changes, "shutdown_grace: "+c.ShutdownGrace.String())
	}
	if c.BodyTimeout != old.BodyTimeout {
		changes = append(changes, "body_timeout: "+c.BodyTimeout.String())
	}
	if c.Page != old.Page {
		changes = append(changes, fmt.Sprintf("page: enabled: %t", c.Page.Enabled))
	}
	if c.TLS != old.TLS {
		changes = append(changes, "tls: changed")
	}
	if !c.Fleet.Equal(old.Fleet) {
		changes = append(changes, "fleet: changed")
	}
	if !slices.Equal(c.AllowedOrigins, old.AllowedOrigins) {
		changes = append(changes, "allowed_origins: changed")
	}
	if !slices.Equal(c.AllowedHosts, old.AllowedHosts) {
		changes = append(changes, "allowed_hosts: changed")
	}
	changes = append(changes, c.replacedChanges(old)...)
	changes = append(changes, compare("key", old.Keys, c.Keys, ClientKey.equal)...)
	if len(c.Keys) == 0 && len(old.Keys) > 0 {
		changes = append(changes, "keys: none are left, so unauthenticated calls are allowed from everyone who can reach "+c.Listen)
	}
	if thresholds(c.GPU) != thresholds(old.GPU) {
		changes = append(changes, "gpu: thresholds changed")
	}
	changes = append(changes, loadingChanges(old.Servers, c.Servers)...)
	changes = append(changes, c.accountingChanges(old)...)
	changes = append(changes, compare("upstream", old.Upstreams, c.Upstreams, func(a, b models.Upstream) bool { return a == b })...)
	return append(changes, compare("route", old.Routes, c.Routes, func(a, b models.Route) bool { return reflect.DeepEqual(a, b) })...)
}

// thresholds returns the settings of GPU that hold for all servers.
func thresholds(g GPU) GPU {
	g.Devices = ""
	return g
}

func compare[V any](what string, before, after map[string]V, same func(a, b V) bool) []string {
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(merged(before, after))) {
		a, was := before[name]
		b, is := after[name]
		switch {
		case !was:
			changes = append(changes, fmt.Sprintf("%s %s: added", what, name))
		case !is:
			changes = append(changes, fmt.Sprintf("%s %s: removed", what, name))
		case !same(a, b):
			changes = append(changes, fmt.Sprintf("%s %s: changed", what, name))
		}
	}
	return changes
}

func merged[V any](a, b map[string]V) map[string]V {
	all := map[string]V{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}
