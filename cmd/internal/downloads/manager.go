package downloads

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models/hub"
)

// Fetch downloads what a ref names and returns the path of the model, of a split one its first
// part. It continues where an earlier call stopped, and returns soon after ctx has ended. It
// calls report as hub.Client.Download does.
type Fetch func(ctx context.Context, ref string, report func(hub.Progress)) (path string, err error)

// Options are what a Manager needs.
type Options struct {
	Dir     string // with the models
	Fetch   Fetch
	Arrived func(ref string) // called once the model of a ref is there; Find returns it
	Log     zerolog.Logger
}

const (
	firstPause = 5 * time.Second // after a failure; doubled after each further one
	maxPause   = 5 * time.Minute
	// longPause is the pause after a file that was damaged, since the next try downloads all of it, and
	// the longest that a server is obeyed that asks to wait.
	longPause = 6 * time.Hour
)

// Manager runs downloads, each ref at most once at a time. Its methods do not wait for the
// network, and may be called from any goroutine.
type Manager struct {
	opts Options
	ctx  context.Context //nolint:containedctx // of all downloads
	all  sync.WaitGroup

	mu      sync.Mutex
	running map[string]*download // by ref, until they have ended
}

// download is a ref that is not there yet.
type download struct {
	ctx    context.Context //nolint:containedctx // ends when it is no longer wanted
	cancel context.CancelFunc
	retry  chan struct{} // receives when the pause after a failure is to end
	ended  chan struct{} // closed when it has ended

	state State // guarded by the Manager's mu, as are meter and most
	meter meter
	most  int64 // bytes that there were so far

	byServers bool // servers need it
	byHand    bool // an operator has asked for it
}

// New returns a Manager whose downloads end with ctx.
func New(ctx context.Context, opts Options) *Manager {
	return &Manager{opts: opts, ctx: ctx, running: map[string]*download{}}
}

// Wait waits until all downloads have ended, after the end of the Manager's context.
func (m *Manager) Wait() { m.all.Wait() }

// Need sets which models servers need. Those that are not there are downloaded, and Arrived is
// called for each; one that has failed is tried again at once. The download of a model that is no longer needed stops, and
// keeps what it has.
func (m *Manager) Need(refs []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref, d := range m.running {
		d.byServers = slices.Contains(refs, ref)
		if !d.byServers && !d.byHand {
			d.cancel()
		}
	}
	for _, ref := range refs {
		m.start(ref).byServers = true
	}
}

// State returns the state of the model of a ref that a server needs. If it is gone, it is
// downloaded again.
func (m *Manager) State(ref string) State {
	if path, there := Find(m.opts.Dir, ref); there {
		return State{Ref: ref, Path: path}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.running[ref]
	if d == nil || d.ctx.Err() != nil {
		d = m.start(ref)
		d.byServers = true
	}
	return d.state
}

// Running returns the state of a download that runs or has failed; ok is false if there is none.
func (m *Manager) Running(ref string) (s State, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.running[ref]; d != nil && d.ctx.Err() == nil {
		return d.state, true
	}
	return State{}, false
}

// Start downloads a model for an operator.
func (m *Manager) Start(ref string) error {
	if path, there := Find(m.opts.Dir, ref); there {
		return fmt.Errorf("%s is there already: %s", ref, path)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start(ref).byHand = true
	return nil
}

// Cancel stops a download for an operator, and keeps what it has.
func (m *Manager) Cancel(ref string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.running[ref]
	switch {
	case d == nil || d.ctx.Err() != nil:
		return fmt.Errorf("%s is not being downloaded", ref)
	case d.byServers:
		return fmt.Errorf("%s is the model of a server; remove the server from llmsup.yaml and reload, and its download stops", ref)
	}
	d.cancel()
	return nil
}

// start starts a download, or has it tried again if it has failed. The caller holds m.mu.
func (m *Manager) start(ref string) *download {
	before := m.running[ref]
	if before != nil && before.ctx.Err() == nil {
		if before.state.Problem != "" {
			select {
			case before.retry <- struct{}{}:
			default:
			}
		}
		return before
	}
	d := &download{retry: make(chan struct{}, 1), ended: make(chan struct{}), state: State{Ref: ref, Advanced: time.Now()}}
	d.ctx, d.cancel = context.WithCancel(m.ctx)
	m.running[ref] = d
	m.all.Go(func() {
		defer close(d.ended)
		defer d.cancel()
		if before != nil {
			<-before.ended
		}
		arrived := m.run(d)
		m.mu.Lock()
		if m.running[ref] == d {
			delete(m.running, ref)
		}
		m.mu.Unlock()
		if arrived {
			m.opts.Arrived(ref)
		}
	})
	return d
}

// run downloads until it has succeeded, or is no longer wanted.
func (m *Manager) run(d *download) (arrived bool) {
	ref := d.state.Ref
	if _, there := Find(m.opts.Dir, ref); there {
		return true
	}
	log := m.opts.Log.With().Str("model", ref).Logger()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		log.Info().Msg("downloading the model")
		begun := time.Now()
		path, err := m.opts.Fetch(d.ctx, ref, func(p hub.Progress) { m.report(d, p) })
		if err == nil {
			err = Remember(m.opts.Dir, ref, path)
		}
		switch {
		case err == nil:
			log.Info().Str("path", path).Int64("seconds", int64(time.Since(begun).Seconds())).Msg("the model is downloaded")
			return true
		case d.ctx.Err() != nil:
			log.Info().Msg("the download stops; a later one continues it")
			return false
		}
		pause := pauseAfter(err, pause)
		log.Warn().Err(err).Int64("next_try_s", int64(pause.Seconds())).Msg("the model cannot be downloaded; llmsup reload tries again at once")
		m.setProblem(d, err.Error(), time.Now().Add(pause))
		timer := time.NewTimer(pause)
		select {
		case <-d.ctx.Done():
		case <-d.retry:
		case <-timer.C:
		}
		timer.Stop()
		if d.ctx.Err() != nil {
			return false
		}
		m.setProblem(d, "", time.Time{})
	}
}

// pauseAfter returns the pause after a failure; usual is that of most failures.
func pauseAfter(err error, usual time.Duration) time.Duration {
	if errors.Is(err, hub.ErrDamaged) {
		return longPause
	}
	if limited, ok := errors.AsType[*hub.LimitedError](err); ok {
		return min(max(time.Until(limited.Until), usual), longPause)
	}
	return usual
}

// report sets how far a download is.
func (m *Manager) report(d *download, p hub.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.state.Phase, d.state.Done, d.state.Total = p.Phase, p.Done, p.Total
	if p.Done > d.most || p.Phase != hub.Downloading {
		d.most, d.state.Advanced = max(d.most, p.Done), time.Now()
	}
	if d.state.Rate, d.state.Left = 0, 0; p.Phase != hub.Downloading {
		d.meter = meter{}
		return
	}
	if d.state.Rate = d.meter.add(time.Now(), p.Done); d.state.Rate > 0 && p.Total > p.Done {
		d.state.Left = time.Duration(float64(p.Total-p.Done) / d.state.Rate * float64(time.Second))
	}
}

// setProblem sets why a download has failed, and when it is tried again; "" = it runs again.
func (m *Manager) setProblem(d *download, problem string, nextTry time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.meter, d.state.Rate, d.state.Left = meter{}, 0, 0
	d.state.Problem, d.state.NextTry = problem, nextTry
}
