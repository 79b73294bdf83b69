package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Server keeps one llama-server running. Run owns its state; Snapshot, the
// orders (orders.go) and the readers of its log may be called from anywhere, at
// any time.
type Server struct {
	name, dir string // of the Spec, for good
	log       zerolog.Logger
	hurry     <-chan struct{} // closed: no grace for the child any more
	snap      atomic.Pointer[Snapshot]
	output    *ring
	// serving says that the process has been ready: what it prints from then on
	// may quote a caller. Written by the owner, read as its output comes.
	serving atomic.Bool

	orders    orders
	turns     turns
	health    atomic.Pointer[string]
	judged    chan struct{} // receives when health has changed
	condemned atomic.Pointer[sentence]
	sentenced chan struct{} // receives when there is one

	// Of the owner alone:
	spec    Spec
	removed bool          // Remove's order was taken, and no later one takes it back
	changed chan struct{} // the present snapshot's Changed
	gone    chan struct{} // the present process's Exited
	starts  int
	ended   Class         // how the last process ended
	again   map[Class]int // starts after the first one by that; replaced, never changed
	past    history
	kills   oomWatch

	// What a test puts its own in place of:
	start  func(ctx context.Context, out *lineWriter) (child, Endpoint, error)
	engine func(Endpoint) engine
}

// child is a running process, as far as the owner deals with it.
type child interface {
	id() int
	done() <-chan struct{} // closed at the instant of its end
	end() Exit             // how it ended; waits for the last of its output
	stop(grace time.Duration, hurry <-chan struct{})
}

// New makes a server in state stopped. When hurry is closed, a child that is
// being stopped is killed at once.
func New(spec Spec, log zerolog.Logger, hurry <-chan struct{}) *Server {
	s := &Server{
		name: spec.Name, dir: spec.Dir, spec: spec.withDefaults(),
		log: log.With().Str("server", spec.Name).Logger(), hurry: hurry, output: newRing(),
		orders: orders{came: make(chan struct{}, 1)}, judged: make(chan struct{}, 1), sentenced: make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
	s.start = s.startProcess
	s.engine = func(e Endpoint) engine { return newProber(e, min(probeAnswer, s.spec.StallTimeout/2)) }
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
	var logging sync.WaitGroup
	logged, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	logging.Go(func() { forward(logged, s.output, s.log) })
	defer func() { stopLogging(); logging.Wait() }()

	s.turns.turn()
	defer s.turns.end()
	defer s.enter(Stopped, "", noProcess)
	for ctx.Err() == nil {
		s.turns.turn()
		if s.outOfUse() {
			s.stayDrained(ctx)
			continue
		}
		if !s.carryOut(s.orders.take()) {
			s.park(ctx)
			continue
		}
		s.enter(Starting, "", func(n *Snapshot) {
			noProcess(n)
			n.Model, n.CtxSize = s.spec.Model, s.spec.CtxSize
		})
		if !s.awaitVRAM(ctx) {
			continue
		}
		exit, ready := s.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.ended = exit.Class
		if exit.Class == Replaced {
			continue
		}
		if s.outOfUse() { // and so nothing comes of it
			s.enter(Draining, exit.Cause, func(n *Snapshot) { noProcess(n); n.LastExit = exit })
			continue
		}
		s.past = s.past.after(exit.Class, ready)
		s.rest(ctx, exit)
	}
}

// carryOut makes an order hold for the next start. It returns false when there
// is to be none.
func (s *Server) carryOut(o order) (start bool) {
	if o.spec != nil {
		s.spec = *o.spec
	}
	if o.replace {
		s.past = history{}
		s.removed = o.retire
	}
	return !s.removed
}

// park waits, without a process, for ctx to end or for an order to start again.
func (s *Server) park(ctx context.Context) {
	s.enter(Stopped, order{retire: true}.words(), noProcess)
	for s.awaitOrder(ctx) {
		if o := s.orders.now(); o.replace && !o.retire {
			return
		}
	}
}

// rest is the time between an end that nobody asked for and the next start.
func (s *Server) rest(ctx context.Context, exit *Exit) {
	ended := func(n *Snapshot) {
		noProcess(n)
		n.LastExit, n.Restarts, n.RestartsBy = exit, s.starts-1, s.again
	}
	event := s.log.Error().Str("class", string(exit.Class)).Int("code", exit.Code).Strs("tail", exit.tailForLog())
	if exit.Signal != "" {
		event.Str("signal", exit.Signal)
	}
	if s.orders.now().replace { // which it did not live to see done
		s.enter(Restarting, exit.Cause, ended)
		event.Msg("llama-server ended: " + exit.Cause)
		return
	}
	pause, giveUp := s.past.decide(rand.Float64())
	if giveUp {
		const until = "it stays so until `llmsup restart` or `llmsup reload`, or a change of the model's file"
		s.enter(Failed, exit.Cause+"; "+until, ended)
		event.Msg("llama-server failed for good: " + exit.Cause)
		s.awaitChange(ctx)
		return
	}
	s.enter(Restarting, fmt.Sprintf("%s; next start in %s", exit.Cause, pause.Round(100*time.Millisecond)), func(n *Snapshot) {
		ended(n)
		n.NextStart = time.Now().Add(pause)
	})
	event.Int64("next_start_ms", pause.Milliseconds()).Msg("llama-server ended: " + exit.Cause)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for {
		s.turns.turn()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-timer.C:
			return
		case <-s.orders.came:
			if s.orders.now().replace || s.outOfUse() {
				return
			}
		}
	}
}

// watchFilesEvery is how often a server that has given up looks whether its
// files have changed.
const watchFilesEvery = 2 * time.Second

// awaitChange waits until there is a reason to believe that another start could
// end otherwise.
func (s *Server) awaitChange(ctx context.Context) {
	before := s.spec.files()
	tick := time.NewTicker(watchFilesEvery)
	defer tick.Stop()
	for {
		s.turns.turn()
		select {
		case <-ctx.Done():
			return
		case <-s.orders.came:
			if s.orders.now().replace || s.outOfUse() {
				return
			}
		case <-tick.C:
			if s.spec.files() != before {
				s.log.Info().Msg("the model's file, or llama-server, has changed; starting again")
				s.past = history{}
				return
			}
		}
	}
}

func noProcess(n *Snapshot) {
	n.PID, n.Exited, n.Endpoint, n.NextStart = 0, nil, Endpoint{}, time.Time{}
}

// enter is the one place where the state changes. It publishes a snapshot that
// differs from the present one in state, reason, the drain in force, and what edit
// changes. A closed channel tells readers of it; enter does not wait for them.
func (s *Server) enter(to State, reason string, edit func(*Snapshot)) {
	old := s.snap.Load()
	if !mayFollow(old.State, to) {
		panic(fmt.Sprintf("supervisor: server %s can't go from %s to %s", s.name, old.State, to))
	}
	next := *old
	if edit != nil {
		edit(&next)
	}
	next.State, next.Reason = to, reason
	next.DrainRequested, next.DrainEnds = false, time.Time{}
	if h := s.orders.held(); h != nil {
		next.DrainRequested, next.DrainEnds = true, h.Ends
	}
	next.Removed = s.removed || s.orders.now().retire
	if to != old.State {
		next.Since = time.Now()
	}
	told := s.changed
	s.changed = make(chan struct{})
	next.Changed = s.changed
	s.snap.Store(&next)
	close(told)
}
