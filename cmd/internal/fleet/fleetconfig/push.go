package fleetconfig

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// Push implements control.FleetConfigurer.
func (m *Manager) Push(ctx context.Context, r control.PushRequest, user string) (control.PushedConfig, error) {
	shared, text, err := read(r)
	if err != nil {
		return control.PushedConfig{}, err
	}
	b, err := m.connection()
	if err != nil {
		return control.PushedConfig{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	if err := m.o.Box.Check(shared); err != nil {
		return control.PushedConfig{}, err
	}
	present, revision, err := b.get(ctx)
	if err != nil && !errors.Is(err, errForeign) { // what has another key is replaced
		return control.PushedConfig{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	d := &Document{Version: m.next(present), PushedAt: time.Now().UTC().Truncate(time.Second), PushedBy: user + "@" + m.name(), Text: text}
	pushed := control.PushedConfig{Version: d.Version, Sections: shared.Sections, Previous: present, Warnings: m.unknownTargets(shared)}
	if present != nil && present.Text == text {
		pushed.Version, pushed.Unchanged = present.Version, true
		return pushed, nil
	}
	revision, err = b.put(ctx, d, revision)
	switch {
	case errors.Is(err, errOvertaken):
		by := "by another box"
		if first, _, err := b.get(ctx); err == nil && first != nil {
			by = fmt.Sprintf("as version %d by %s", first.Version, first.PushedBy)
		}
		return control.PushedConfig{}, fmt.Errorf("another configuration was pushed at the same moment, %s, and this one was not; compare them with llmsup fleet diff, and push again", by)
	case errors.Is(err, context.DeadlineExceeded):
		return control.PushedConfig{}, fmt.Errorf("NATS has not confirmed within %s that it has version %d; llmsup fleet diff shows whether it has", requestFor, d.Version)
	case err != nil:
		return control.PushedConfig{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	m.handled(revision)
	if err := m.apply(d); err != nil {
		pushed.Refused = err.Error()
	}
	return pushed, nil
}

// read returns what a push makes the fleet's configuration.
func read(r control.PushRequest) (shared *config.Shared, text string, err error) {
	if r.Remove {
		return &config.Shared{}, "", nil
	}
	shared, err = config.ParseShared(r.File, []byte(r.Text), 0)
	if err != nil {
		return nil, "", err
	}
	if text, err = Extract(r.File, []byte(r.Text)); err != nil {
		return nil, "", err
	}
	if _, err := config.ParseShared(r.File+", rewritten", []byte(text), 0); err != nil { // all boxes have to read it
		return nil, "", err
	}
	return shared, text, nil
}

// unknownTargets warns of backends of routes that no box has now: a server may be on a box that
// joins later, but it may also be a typing error.
func (m *Manager) unknownTargets(s *config.Shared) (warnings []string) {
	running := m.o.Box.Config()
	known := func(target string) bool {
		_, server := running.Servers[target]
		_, upstream := running.Upstreams[target]
		return server || upstream || strings.Contains(target, "://") || m.hasModel(target)
	}
	targets := s.Targets()
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

// next returns the version of the next document: higher than that of any box.
func (m *Manager) next(present *Document) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	highest := uint64(0)
	if v := m.view(); v != nil {
		for _, box := range v.Boxes {
			highest = max(highest, box.ConfigVersion)
		}
	}
	for _, d := range []*Document{present, m.own(), m.refused} {
		if d != nil {
			highest = max(highest, d.Version)
		}
	}
	return highest + 1
}
