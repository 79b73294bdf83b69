package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Server keeps one llama-server running. Run owns its state; Snapshot may be
// called from anywhere, at any time.
type Server struct {
	spec  Spec
	log   zerolog.Logger
	hurry <-chan struct{} // closed: no grace for the child any more
	snap  atomic.Pointer[Snapshot]

	// Of the owner alone:
	changed  chan struct{} // the present snapshot's Changed
	starts   int
	failures int // ends in a row that nobody asked for
}

// New makes a server in state stopped. When hurry is closed, a child that is
// being stopped is killed at once.
func New(spec Spec, log zerolog.Logger, hurry <-chan struct{}) *Server {
	s := &Server{spec: spec, log: log.With().Str("server", spec.Name).Logger(), hurry: hurry}
	s.changed = make(chan struct{})
	s.snap.Store(&Snapshot{
		Name: spec.Name, Model: spec.Model, CtxSize: spec.CtxSize,
		State: Stopped, Since: time.Now(), Changed: s.changed,
	})
	return s
}

// Snapshot returns what is known of the server now. It takes no lock.
func (s *Server) Snapshot() *Snapshot { return s.snap.Load() }

// Run starts llama-server and keeps it running until ctx ends, then stops it
// and returns. It is called once.
func (s *Server) Run(ctx context.Context) {
	defer s.enter(Stopped, "", func(n *Snapshot) { n.PID, n.Gone, n.Endpoint = 0, nil, Endpoint{} })
	for ctx.Err() == nil {
		s.enter(Starting, "", nil)
		exit, ready := s.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.failures = failuresAfter(s.failures, ready)
		pause := backoff(s.failures, rand.Float64())
		s.enter(Restarting, fmt.Sprintf("%s; next start in %s", exit.Cause, pause.Round(100*time.Millisecond)), func(n *Snapshot) {
			n.PID, n.Gone, n.Endpoint, n.LastExit = 0, nil, Endpoint{}, exit
		})
		s.log.Error().Int("code", exit.Code).Str("signal", exit.Signal).Strs("tail", exit.Tail).
			Int64("next_start_ms", pause.Milliseconds()).Msg("llama-server ended: " + exit.Cause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// runOnce runs the process from its start to its end, and says for how long it
// was ready.
func (s *Server) runOnce(ctx context.Context) (exit *Exit, ready time.Duration) {
	kept := &tail{}
	out := &lineWriter{emit: func(line string) {
		kept.add(line)
		s.log.Debug().Msg(line)
	}}
	p, endpoint, err := s.start(ctx, out)
	if err != nil {
		return &Exit{At: time.Now(), Code: -1, Cause: err.Error()}, 0
	}
	gone := make(chan struct{})
	s.enter(Loading, "", func(n *Snapshot) {
		n.PID, n.Endpoint, n.Gone = p.pid, endpoint, gone
		n.Restarts = s.starts - 1
		n.Slots, n.CtxSize = 0, s.spec.CtxSize
	})

	readyAt := s.watch(ctx, p, newProber(endpoint))
	if ctx.Err() != nil {
		s.enter(Draining, "llmsup is stopping", nil)
	}
	close(gone) // before the process is stopped: its calls can move at once
	p.stop(s.spec.stopGrace(), s.hurry)
	out.flush()
	if endpoint.Network == "unix" {
		_ = os.Remove(endpoint.Address) // llama-server leaves it when it is killed
	}
	if !readyAt.IsZero() {
		ready = p.exit.At.Sub(readyAt)
	}
	done := p.exit
	done.Tail = kept.snapshot()
	done.Cause = describe(done)
	return &done, ready
}

// start launches the process. Nothing is left running when it fails.
func (s *Server) start(ctx context.Context, out *lineWriter) (*process, Endpoint, error) {
	s.starts++
	if err := os.MkdirAll(s.spec.Dir, 0o700); err != nil {
		return nil, Endpoint{}, fmt.Errorf("make the server's folder: %w", err)
	}
	can, err := readFeatures(ctx, s.spec.Binary)
	if err != nil {
		return nil, Endpoint{}, err
	}
	endpoint, err := s.spec.endpoint(can)
	if err != nil {
		return nil, Endpoint{}, err
	}
	p, err := launch(s.spec.Binary, s.spec.args(can, endpoint), s.spec.environ(endpoint.Key), out)
	if err != nil {
		return nil, Endpoint{}, err
	}
	s.log.Info().Int("pid", p.pid).Str("model", s.spec.Model).Str("listens", endpoint.Address).Msg("llama-server started")
	return p, endpoint, nil
}

// watch follows the process until it ends or ctx does, and returns when it
// became ready; zero if it never did.
func (s *Server) watch(ctx context.Context, p *process, ask *prober) (readyAt time.Time) {
	began := time.Now()
	loaded := make(chan properties, 1)
	probing, stopProbing := context.WithCancel(ctx)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		if props, err := awaitLoaded(probing, ask); err == nil {
			loaded <- props
		}
	}()
	defer func() { stopProbing(); <-probed }()

	for {
		select {
		case <-ctx.Done():
			return readyAt
		case <-p.done:
			return readyAt
		case props := <-loaded:
			readyAt = time.Now()
			s.enter(Ready, "", func(n *Snapshot) {
				n.Slots = props.slots
				if props.ctxSize > 0 {
					n.CtxSize = props.ctxSize
				}
			})
			s.log.Info().Int("slots", props.slots).Int("ctx_size", props.ctxSize).
				Int64("load_ms", readyAt.Sub(began).Milliseconds()).Msg("llama-server is ready")
		}
	}
}

// awaitLoaded asks until the model is loaded, and then what the server made of
// its settings.
func awaitLoaded(ctx context.Context, ask *prober) (properties, error) {
	tick := time.NewTicker(probeEveryLoading)
	defer tick.Stop()
	for {
		if err := ask.health(ctx); err == nil {
			props, err := ask.props(ctx)
			if err != nil && ctx.Err() == nil {
				err = nil // a build without /props: its slots stay unknown
			}
			return props, err
		}
		select {
		case <-ctx.Done():
			return properties{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// enter is the one place where the state changes. It publishes a snapshot that
// differs from the present one in state, reason and what edit does to it.
func (s *Server) enter(to State, reason string, edit func(*Snapshot)) {
	old := s.snap.Load()
	if !mayFollow(old.State, to) {
		panic(fmt.Sprintf("supervisor: server %s can't go from %s to %s", s.spec.Name, old.State, to))
	}
	next := *old
	if edit != nil {
		edit(&next)
	}
	next.State, next.Reason = to, reason
	if to != old.State {
		next.Since = time.Now()
	}
	told := s.changed
	s.changed = make(chan struct{})
	next.Changed = s.changed
	s.snap.Store(&next)
	close(told)
}

// describe puts an end into words: how, and the process's own last ones.
func describe(e Exit) string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != "" {
		how = "killed by " + e.Signal
	}
	if words := lastWords(e.Tail); words != "" {
		return how + ": " + words
	}
	return how
}
