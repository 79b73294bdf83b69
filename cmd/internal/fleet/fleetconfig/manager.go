package fleetconfig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// Box is what a Manager needs of the box.
type Box interface {
	// Check returns why the box could not apply a configuration of the fleet. It changes nothing.
	Check(s *config.Shared) error
	// Apply applies a configuration of the fleet to the box's own one as that runs: edits of
	// llmsup.yaml since the last reload do not count. After an error nothing has changed.
	Apply(s *config.Shared) error
	// Config returns the configuration that runs.
	Config() *config.Config
}

// Options are what a Manager needs.
type Options struct {
	Box      Box
	StateDir string
	Log      zerolog.Logger
}

// Manager is the fleet's configuration on this box. It is a fleet.Service.
type Manager struct {
	o    Options
	view func() *fleet.View // returns nil if the box is in no fleet
	poll time.Duration      // pollInterval

	warned []string // unknown targets in the log; Serve's

	applying sync.Mutex // held while a document is applied, which may take seconds

	mu      sync.Mutex    // guards the fields below
	current *saved        // applied last; nil = none. It counts only if llmsup.yaml has a fleet
	refused *Document     // the fleet's, if the box cannot apply it
	problem string        // why; or what else does not work
	bucket  *bucket       // nil = the box has no connection
	failed  error         // why the bucket could not be opened last
	changed chan struct{} // closed when bucket changes
	fleet   string        // to which the connection is
	seen    uint64        // revision of the bucket that has been dealt with
}

// Open returns a Manager with the document that this box has applied last.
func Open(o Options) (*Manager, error) {
	current, err := load(o.StateDir)
	return &Manager{o: o, current: current, view: func() *fleet.View { return nil }, poll: pollInterval, changed: make(chan struct{})}, err
}

// SetView sets what returns the fleet as the box knows it, before the first Serve.
func (m *Manager) SetView(view func() *fleet.View) { m.view = view }

// Status returns which configuration of the fleet the box runs.
func (m *Manager) Status() *control.FleetConfiguration {
	running := m.o.Box.Config()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &control.FleetConfiguration{Sections: []string{}, Replaced: running.Replaced(), Problem: m.problem}
	if m.current != nil && running.Shared != nil {
		s.Version, s.Sections = running.Shared.Version, running.Shared.Sections
		s.PushedBy, s.PushedAt = m.current.Document.PushedBy, &m.current.Document.PushedAt
	}
	if m.refused != nil {
		s.Refused = m.refused.Version
	}
	if s.Problem == "" && s.Version > 0 && m.bucket != nil && m.own() == nil {
		s.Problem = fmt.Sprintf("the fleet has no configuration yet, and this box uses version %d of another fleet or key; llmsup fleet push FILE gives the fleet one", s.Version)
	}
	s.NoKeys = running.AwaitsKeys()
	if v := m.view(); v != nil && v.Joined {
		s.UnknownTargets = m.unknownTargets(running.Targets())
	}
	if s.Problem == "" && s.NoKeys {
		s.Problem = "this box rejects clients' calls, because neither llmsup.yaml nor the fleet has keys; make one with llmsup key new NAME --add, or push a file with keys: llmsup fleet push FILE"
	}
	return s
}

// Reload tries the version that the box refused, since the operator may have fixed the cause; if that
// fails again, the version in use. try reports whether llmsup.yaml has a fleet.
func (m *Manager) Reload(try func(s *config.Shared) (inFleet bool, err error)) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	m.mu.Lock()
	refused, current := m.refused, m.current
	m.mu.Unlock()
	var still error // why the box refuses it now
	if refused != nil {
		s, err := parse(refused)
		inFleet := false
		if err == nil {
			inFleet, err = try(s)
		}
		if err == nil {
			if inFleet {
				m.applied(refused)
			}
			return nil
		}
		still = err
	}
	var s *config.Shared
	var err error
	if current != nil {
		if s, err = parse(&current.Document); err != nil {
			return err
		}
	}
	if _, err = try(s); err == nil && still != nil {
		m.refuse(refused, still)
	}
	return err
}

// apply tries a document, unless the box has a later one.
func (m *Manager) apply(d *Document) error {
	m.applying.Lock()
	defer m.applying.Unlock()
	if m.hasLater(d) {
		return nil
	}
	return m.try(d)
}

// retry applies the document that the box has refused, since a file may not have fitted for a moment:
// programs that renew a certificate write its files one after the other.
func (m *Manager) retry() {
	m.applying.Lock()
	defer m.applying.Unlock()
	m.mu.Lock()
	d := m.refused
	m.mu.Unlock()
	if d != nil {
		_ = m.try(d) // Status has why not
	}
}

// try has the box apply a document, or remembers why it cannot. The caller holds applying.
func (m *Manager) try(d *Document) error {
	s, err := parse(d)
	if err == nil {
		err = m.o.Box.Apply(s)
	}
	if err == nil {
		m.o.Log.Info().Uint64("version", d.Version).Str("pushed_by", d.PushedBy).Msg("the box uses a new configuration of its fleet")
		m.applied(d)
		return nil
	}
	m.refuse(d, err)
	return err
}

// hasLater reports whether the box has applied a later version: it was pushed on this box after d
// was read from the bucket.
func (m *Manager) hasLater(d *Document) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.own()
	return own != nil && own.Version > d.Version
}

// refuse notes that the box cannot apply a document. It logs a reason once.
func (m *Manager) refuse(d *Document, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = d
	problem := fmt.Sprintf("the box refuses version %d of the fleet's configuration, and keeps %s: %s", d.Version, m.keeps(), err)
	if problem == m.problem {
		return
	}
	m.problem = problem
	m.o.Log.Error().Msg(problem + "; correct llmsup.yaml and run llmsup reload, or push another version")
}

// keeps names what the box runs. The caller holds mu.
func (m *Manager) keeps() string {
	if m.current == nil {
		return "its own"
	}
	return fmt.Sprintf("version %d", m.current.Document.Version)
}

// applied saves a document that the box has applied.
func (m *Manager) applied(d *Document) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = &saved{Fleet: m.fleet, Document: *d}
	m.refused, m.problem = nil, ""
	if err := m.current.save(m.o.StateDir); err != nil {
		m.problem = fmt.Sprintf("version %d of the fleet's configuration cannot be saved, so that a restart without NATS would use an older one: %s", d.Version, err)
		m.o.Log.Error().Msg(m.problem)
	}
}

// own returns the document that counts as this fleet's; nil = none. One that the box has
// from another fleet, or from before a change of the fleet's key, is in use until this fleet
// has one. The caller holds mu.
func (m *Manager) own() *Document {
	if m.current == nil || m.current.Fleet != m.fleet {
		return nil
	}
	return &m.current.Document
}

// errNoFleet means that llmsup.yaml has no fleet.
var errNoFleet = errors.New("this box is in no fleet; fleet: in llmsup.yaml joins one")

// connectTime is how long a push or pull waits for the connection: a box that has just started,
// reloaded or lost its NATS server usually has one a moment later.
const connectTime = 3 * time.Second

// connection returns the bucket, and waits for it if there is none; an error says why.
func (m *Manager) connection(ctx context.Context) (*bucket, error) {
	if !m.o.Box.Config().Fleet.Enabled() {
		return nil, errNoFleet
	}
	late := time.NewTimer(connectTime)
	defer late.Stop()
	for {
		m.mu.Lock()
		b, failed, changed := m.bucket, m.failed, m.changed
		m.mu.Unlock()
		if b != nil {
			return b, nil
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
		}
		switch v := m.view(); {
		case v == nil:
			return nil, errNoFleet // a reload has removed it
		case !v.Joined:
			return nil, fmt.Errorf("this box is not in its fleet now: %s", v.Problem)
		case failed != nil:
			return nil, failed
		}
		return nil, fmt.Errorf("the bucket %s in JetStream has not been opened within %s; try again", bucketName, connectTime)
	}
}

// Pull implements control.FleetConfigurer.
func (m *Manager) Pull(ctx context.Context, version uint64) (control.PulledConfig, error) {
	if !m.o.Box.Config().Fleet.Enabled() {
		return control.PulledConfig{}, errNoFleet
	}
	pulled := control.PulledConfig{Box: m.name(), Running: m.running()}
	b, err := m.connection(ctx)
	if err != nil {
		if pulled.Running != nil && cmp.Or(version, pulled.Running.Version) == pulled.Running.Version {
			pulled.Problem = err.Error()
			return pulled, nil
		}
		return pulled, err
	}
	if version > 0 {
		pulled.Fleet, err = b.earlier(ctx, version)
		if err == nil && pulled.Fleet == nil && (pulled.Running == nil || pulled.Running.Version != version) {
			err = fmt.Errorf("the fleet has no version %d; it keeps the last %d", version, history)
		}
		return pulled, err
	}
	pulled.Fleet, _, err = b.get(ctx)
	return pulled, err
}

// name returns the name of the box in its fleet.
func (m *Manager) name() string {
	if v := m.view(); v != nil {
		return v.Name
	}
	return ""
}

// running returns the document that the box runs; nil = none.
func (m *Manager) running() *Document {
	inUse := m.o.Box.Config().Shared
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil || inUse == nil {
		return nil
	}
	return new(m.current.Document)
}
