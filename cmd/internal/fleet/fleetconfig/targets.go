package fleetconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// unknownTargets warns of backends of routes that no box has now: a server may be on a box that
// joins later, but it may also be a typing error. targets are the backends, each with its place in
// the file.
func (m *Manager) unknownTargets(targets map[string]string) (warnings []string) {
	running := m.o.Box.Config()
	known := func(target string) bool {
		_, server := running.Servers[target]
		_, upstream := running.Upstreams[target]
		return target == "" || server || upstream || strings.Contains(target, "://") || m.hasModel(target)
	}
	for _, target := range slices.Sorted(maps.Keys(targets)) {
		if !known(target) {
			warnings = append(warnings, fmt.Sprintf("%s: this box has no upstream %s, and no box has a server of that name now", targets[target], config.QuoteSafe(target)))
		}
	}
	return warnings
}

// hasModel reports whether another box has a server.
func (m *Manager) hasModel(server string) bool {
	v := m.view()
	return v != nil && slices.ContainsFunc(v.Boxes, func(b fleet.Peer) bool {
		return slices.ContainsFunc(b.Models, func(model fleet.Model) bool { return model.Name == server })
	})
}

// warnTargets logs the routes that run and have no backend on any box, if they are others than when
// it was last called.
func (m *Manager) warnTargets() {
	warnings := m.unknownTargets(m.o.Box.Config().Targets())
	if slices.Equal(warnings, m.warned) {
		return
	}
	m.warned = warnings
	for _, warning := range warnings {
		m.o.Log.Warn().Msg(warning)
	}
}
