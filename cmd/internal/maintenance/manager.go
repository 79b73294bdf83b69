package maintenance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/supervisor"
)

// ErrStopping rejects a command at a stop of llmsup.
var ErrStopping = errors.New("llmsup is stopping")

// Options are what a Manager runs on.
type Options struct {
	Fleet    Fleet
	StateDir string // where the drains are remembered
	Log      zerolog.Logger
	// Lock is held while the fleet or its drains change.
	Lock sync.Locker
}

// Manager carries out drains, their ends and restarts.
type Manager struct {
	opts   Options
	fleet  Fleet
	log    zerolog.Logger
	ctx    context.Context //nolint:containedctx // of the operations, which outlive the requests that begin them
	group  sync.WaitGroup  // the operations that are running
	record atomic.Pointer[Record]

	// The lock of the Options guards these.
	timer      *time.Timer  // until the next drain ends by itself; nil = none does
	operations []*operation // some may be over
	stopping   bool
}

// Open restores the drains that were in force when llmsup ended, for the servers of the
// configuration. Operations run until ctx ends.
func Open(ctx context.Context, opts Options, configured []string) *Manager {
	m := &Manager{opts: opts, fleet: opts.Fleet, log: opts.Log, ctx: ctx}
	record, warning := Restore(opts.StateDir, configured, time.Now())
	m.record.Store(&record)
	if warning != "" {
		m.log.Error().Msg(warning)
	}
	for _, name := range configured {
		if drain, drained := record.Of(name); drained {
			m.log.Warn().Str("server", name).Time("since", drain.Since).Msg("the server is still drained; llmsup resume takes it into use again")
		}
	}
	return m
}

// Record is which servers are drained now. It needs no lock.
func (m *Manager) Record() Record { return *m.record.Load() }

// Stop ends no drain, and begins no command any more.
func (m *Manager) Stop() {
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	m.stopping = true
	m.scheduleResume() // there is none any more
}

// Wait waits for the operations after Stop, once the context has ended.
func (m *Manager) Wait() { m.group.Wait() }

// FleetChanged adapts the drains to the servers that there are now. The caller holds the
// lock.
func (m *Manager) FleetChanged() {
	m.changeRecord(m.Record().Follow(m.configured()))
	m.releaseDriver()
}

// ServerRemoved is called when a reload has removed a server, after FleetChanged: its own
// drain is forgotten, also if a reload adds it again before it has ended. The caller
// holds the lock.
func (m *Manager) ServerRemoved(s Server) {
	if _, drained := m.Record().Of(s.Name); drained {
		return
	}
	s.Process.Resume()
	m.cancel(drainCommand, []string{s.Name}, func(string) string {
		return "a reload has removed " + s.Name + ", which ends its drain; its process ends when its calls have ended"
	})
}

// changeRecord remembers drains that have changed without a command, by a reload or
// because their time is over. The caller holds the lock.
func (m *Manager) changeRecord(next Record) {
	if !next.Same(m.Record()) {
		if err := next.Save(m.opts.StateDir); err != nil {
			m.log.Warn().Err(err).Msg("the present drains can't be remembered over a restart")
		}
	}
	m.record.Store(&next)
	m.scheduleResume()
}

// releaseDriver closes the GPU's driver while every server is drained and stopped, and
// its VRAM free. The caller holds the lock.
func (m *Manager) releaseDriver() {
	record := m.Record()
	release := !record.Empty()
	for _, s := range m.fleet.Servers() {
		drain, drained := record.Of(s.Name)
		now := s.Process.Snapshot()
		stopped := now.PID == 0 && (now.State == supervisor.Drained || now.State == supervisor.Stopped)
		release = release && drained && !drain.KeepServer && stopped && s.VRAM.UnreclaimedVRAM() == ""
	}
	m.fleet.ReleaseDriver(release)
}

// configured are the names of the servers that the configuration has, sorted.
func (m *Manager) configured() []string {
	return namesOf(slices.DeleteFunc(slices.Clone(m.fleet.Servers()), func(s Server) bool { return s.Removed }))
}
