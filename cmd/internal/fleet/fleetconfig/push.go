package fleetconfig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Push implements control.FleetConfigurer.
func (m *Manager) Push(ctx context.Context, r control.PushRequest, user string) (control.PushedConfig, error) {
	shared, text, err := read(r)
	if err != nil {
		return control.PushedConfig{}, err
	}
	b, err := m.connection(ctx)
	if err != nil {
		return control.PushedConfig{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	b.c.AwaitBoxes(ctx) // Warnings are about what they have, and llmsup fleet push names them
	if err := m.o.Box.Check(shared); err != nil {
		return control.PushedConfig{}, err
	}
	present, revision, err := b.get(ctx)
	if err != nil && !errors.Is(err, errForeign) { // what an outsider has written is replaced
		return control.PushedConfig{}, fmt.Errorf("%w; nothing was pushed", err)
	}
	d := &Document{Version: m.next(present), PushedAt: time.Now().UTC().Truncate(time.Second), PushedBy: user + "@" + m.name(), Text: text}
	pushed := control.PushedConfig{Version: d.Version, Sections: shared.Sections, Previous: present, Warnings: m.unknownTargets(shared.Targets())}
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
	case err != nil:
		return control.PushedConfig{}, notPut(err, d.Version)
	}
	m.handled(revision)
	if err := m.apply(d); err != nil {
		pushed.Refused = err.Error()
	}
	return pushed, nil
}

// notPut explains why a version may not be in the bucket. If the connection is lost, or no answer
// comes, NATS may have it nevertheless.
func notPut(err error, version uint64) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("NATS has not confirmed that it has version %d: %w; llmsup fleet diff shows whether it has", version, err)
	}
	return fmt.Errorf("%w; nothing was pushed", err)
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
