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

// ErrStopping rejects a command while llmsup stops.
var ErrStopping = errors.New("llmsup is stopping")

// Options are the dependencies of a Manager.
type Options struct {
	Servers  Servers
	StateDir string // where the drains are stored
	Log      zerolog.Logger
	// Lock is held while the servers or their drains change.
	Lock sync.Locker
}

// Manager carries out drains, resumes and restarts.
type Manager struct {
	opts    Options
	servers Servers
	log     zerolog.Logger
	ctx     context.Context //nolint:containedctx // of the operations, which outlive the requests that begin them
	group   sync.WaitGroup  // the operations that are running
	record  atomic.Pointer[Record]

	// The lock of the Options guards these.
	timer      *time.Timer  // for the next drain that ends automatically; nil = none does
	operations []*operation // some may be done
	stopping   bool
}

// Open restores the drains that were in force when llmsup stopped, for the configured
// servers. Operations run until ctx ends.
func Open(ctx context.Context, opts Options, configured []string) *Manager {
	m := &Manager{opts: opts, servers: opts.Servers, log: opts.Log, ctx: ctx}
	record, warning := Restore(opts.StateDir, configured, time.Now())
	m.record.Store(&record)
	if warning != "" {
		m.log.Error().Msg(warning)
	}
	for _, name := range configured {
		if drain, drained := record.Of(name); drained {
			m.log.Warn().Str("server", name).Time("since", drain.Since).Msg("the server is still drained; to use it again, run llmsup resume")
		}
	}
	return m
}

// Record returns which servers are drained now. It needs no lock.
func (m *Manager) Record() Record { return *m.record.Load() }

// Stop rejects further commands. It does not end a drain.
func (m *Manager) Stop() {
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	m.stopping = true
	m.scheduleResume() // it only stops the timer
}

// Wait waits for the operations after Stop, once the context has ended.
func (m *Manager) Wait() { m.group.Wait() }

// ServersChanged adapts the drains to the present servers. The caller holds the lock.
func (m *Manager) ServersChanged() {
	m.changeRecord(m.Record().Follow(m.configured()))
	m.releaseDriver()
}

// ServerRemoved is called after ServersChanged when a reload has removed a server. Its own
// drain is dropped, even if a reload adds it again before it has ended. The caller holds
// the lock.
func (m *Manager) ServerRemoved(s Server) {
	if _, drained := m.Record().Of(s.Name); drained {
		return
	}
	s.Process.Resume()
	m.cancel(drainCommand, []string{s.Name}, func(string) string {
		return "a reload has removed " + s.Name + ", which ends its drain; its process ends when its calls have ended"
	})
}

// changeRecord stores drains that have changed without a command: by a reload, or because
// they have expired. The caller holds the lock.
func (m *Manager) changeRecord(next Record) {
	if !next.Same(m.Record()) {
		if err := next.Save(m.opts.StateDir); err != nil {
			m.log.Warn().Err(err).Msg("cannot save the present drains; they will be lost if llmsup restarts")
		}
	}
	m.record.Store(&next)
	m.scheduleResume()
}

// releaseDriver closes the GPU's driver while every server is drained and stopped and its
// VRAM is free. The caller holds the lock.
func (m *Manager) releaseDriver() {
	record := m.Record()
	release := !record.Empty()
	for _, s := range m.servers.All() {
		drain, drained := record.Of(s.Name)
		now := s.Process.Snapshot()
		stopped := now.PID == 0 && (now.State == supervisor.Drained || now.State == supervisor.Stopped)
		release = release && drained && !drain.KeepServer && stopped && s.VRAM.UnreclaimedVRAM() == ""
	}
	m.servers.ReleaseDriver(release)
}

// configured returns the names of the configured servers, sorted.
func (m *Manager) configured() []string {
	return namesOf(slices.DeleteFunc(slices.Clone(m.servers.All()), func(s Server) bool { return s.Removed }))
}
