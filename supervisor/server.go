package supervisor

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/supervisor/process"
	"github.com/llmsup/llmsup/supervisor/promptcache"
)

// Server keeps one process of an engine running. Run owns its state. Snapshot, the
// commands (commands.go, drain.go) and Output may be called from any goroutine at
// any time.
type Server struct {
	name, dir string // of the Spec; they never change
	log       zerolog.Logger
	forceStop <-chan struct{} // closed: a process that is being stopped gets no grace
	snapshot  atomic.Pointer[Snapshot]
	output    *output.Ring
	published atomic.Pointer[Engine] // the owner's engine, for other goroutines
	members   process.Members
	// serving says that the process has been ready: what it prints from then on may
	// quote a prompt. The owner writes it; the goroutine that reads the output reads it.
	serving atomic.Bool

	commands  commandBox
	heartbeat heartbeat
	caches    *promptcache.Store

	health        atomic.Pointer[string] // of SetHealth
	healthChanged chan struct{}          // receives when health has changed
	killRequest   atomic.Pointer[killRequest]
	killRequested chan struct{} // receives when there is a killRequest

	// For the owner goroutine alone:
	engine      Engine // of the spec
	program     string // the engine's name, for the log
	spec        Spec
	removed     bool                // Remove was applied, and no later command has taken it back
	changed     chan struct{}       // the present snapshot's Changed
	exited      chan struct{}       // the present process's Exited
	description *models.Description // of the spec's model; nil = unknown
	starts      int
	lastClass   Class         // of the last exit
	restartsBy  map[Class]int // starts after the first one, by the class of the exit before; replaced, never changed
	history     history
	oom         process.OOMWatch
	asleep      time.Time // when the present process went to sleep, or began to wake; zero = it is awake
	savesCaches bool      // the present process can save its prompt caches

	// Tests replace these:
	start          func(context.Context, io.Writer) (child, Command, error)
	verifyListener func(ctx context.Context, network, address string, pid int, token string) (direct bool, err error)
}

// child is a running process: a *process.Process, or a test's.
type child interface {
	PID() int
	Done() <-chan struct{} // closed at the instant of its end
	Wait() process.Exit    // how it ended; waits for the last of its output
	Stop(grace time.Duration, force <-chan struct{})
}

// New returns a server in state stopped. engine is that of a Spec without one. When forceStop is closed, a process that is
// being stopped is killed at once.
func New(spec Spec, engine Engine, log zerolog.Logger, forceStop <-chan struct{}) *Server {
	s := &Server{
		name: spec.Name, dir: spec.Dir, spec: spec.withDefaults(),
		log: log.With().Str("server", spec.Name).Logger(), forceStop: forceStop, output: output.NewRing(),
		commands:      commandBox{pending: make(chan struct{}, 1)},
		healthChanged: make(chan struct{}, 1), killRequested: make(chan struct{}, 1),
		changed:        make(chan struct{}),
		verifyListener: process.VerifyListener,
	}
	s.use(engine)
	s.use(spec.Engine)
	s.caches = promptcache.Open(spec.Dir, s.log)
	s.start = s.startProcess
	s.snapshot.Store(&Snapshot{
		Name: spec.Name, Model: spec.Model, CtxSize: spec.CtxSize,
		State: Stopped, Since: time.Now(), Changed: s.changed,
	})
	return s
}

// use makes an engine that of the next process; nil changes nothing.
func (s *Server) use(engine Engine) {
	if engine != nil {
		s.engine, s.program = engine, engine.Capabilities(nil).Program
		s.published.Store(&engine)
	}
}

// probe returns a probe of the process of a snapshot, for goroutines other than the owner.
func (s *Server) probe(now *Snapshot) Probe {
	return (*s.published.Load()).Probe(now.Endpoint, now.description(), probeTimeout)
}

// Snapshot returns what is known about the server now. It takes no lock.
func (s *Server) Snapshot() *Snapshot { return s.snapshot.Load() }

// Output returns the last lines that the server's processes have printed.
func (s *Server) Output() *output.Ring { return s.output }

// PromptCaches returns whether the prompt caches survive an unload, as a text for people; "" =
// it is not known, or not wanted.
func (s *Server) PromptCaches() string { return s.caches.State() }

// Rebuild returns how long it would take after an unload to have the cached prompts again; 0 =
// there are none, or it is not known.
func (s *Server) Rebuild() time.Duration { return s.caches.Rebuild() }

// BusySlots asks the running process how many of its slots work on a call.
func (s *Server) BusySlots(ctx context.Context) (int, error) {
	return s.probe(s.Snapshot()).BusySlots(ctx)
}

// Processes returns the present process and those below it, and whether
// one of them has a GPU's device open; none where no process runs.
func (s *Server) Processes() (pids []int, usesGPU func() bool) {
	now := s.Snapshot()
	if now.PID == 0 {
		return nil, func() bool { return false }
	}
	pids = []int{now.PID}
	if !now.Direct {
		pids = s.members.Of(now.PID, now.token)
	}
	return pids, func() bool { return process.UsesGPU(pids) }
}

// Run starts the process and keeps it running until ctx ends, then stops it and
// returns. It is called once.
func (s *Server) Run(ctx context.Context) {
	var logging sync.WaitGroup
	logCtx, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	s.use(s.engine)
	format := func(line string, serving bool) (string, zerolog.Level, bool) {
		return (*s.published.Load()).LogLine(line, serving)
	}
	logging.Go(func() { output.CopyToLog(logCtx, s.output, s.log, format) })
	defer func() { stopLogging(); logging.Wait() }()

	s.heartbeat.beat()
	defer s.heartbeat.stop()
	defer func() {
		reason := ""
		if s.removed {
			reason = command{remove: true}.reason()
		}
		s.transition(Stopped, reason, noProcess)
	}()
	for ctx.Err() == nil {
		s.heartbeat.beat()
		switch {
		case s.isDrained():
			s.runDrained(ctx)
		case !s.apply(s.commands.take()):
			s.awaitReconfigure(ctx)
		default:
			s.cycle(ctx)
		}
	}
}

// apply makes a command take effect with the next start. It returns false if there
// must be none.
func (s *Server) apply(c command) (start bool) {
	if c.spec != nil {
		s.spec = *c.spec
		s.use(s.spec.Engine)
	}
	if c.replace {
		s.history = history{}
		s.removed = c.remove
	}
	return !s.removed
}

// awaitReconfigure waits, without a process, until ctx ends or a command takes the
// removal back.
func (s *Server) awaitReconfigure(ctx context.Context) {
	s.transition(Stopped, command{remove: true}.reason(), noProcess)
	s.caches.Remove()
	for s.awaitCommand(ctx) {
		if c := s.commands.peek(); c.replace && !c.remove {
			return
		}
	}
}

// noProcess removes from a snapshot what holds for a running process alone.
func noProcess(n *Snapshot) {
	n.PID, n.Exited, n.Endpoint, n.NextStart = 0, nil, Endpoint{}, time.Time{}
}

// transition is the only place where the state changes. It publishes a snapshot
// that differs from the present one in state, reason, the drain in force, and what
// edit changes. It closes the present one's Changed, and waits for no reader.
func (s *Server) transition(to State, reason string, edit func(*Snapshot)) {
	old := s.Snapshot()
	if !mayFollow(old.State, to) {
		panic(fmt.Sprintf("supervisor: server %s must not go from %s to %s", s.name, old.State, to))
	}
	next := *old
	if edit != nil {
		edit(&next)
	}
	next.State, next.Reason = to, reason
	next.DrainRequested, next.DrainEnds = false, time.Time{}
	next.UnloadRequested = false
	if d := s.commands.drainRequest(); d != nil {
		next.DrainRequested, next.UnloadRequested, next.DrainEnds = !d.unload, d.unload, d.Ends
	}
	next.Removed = s.removed || s.commands.peek().remove
	if to != old.State {
		next.Since = time.Now()
	}
	superseded := s.changed
	s.changed = make(chan struct{})
	next.Changed, next.Description = s.changed, s.description
	s.snapshot.Store(&next)
	close(superseded)
}

// setReadyOrDegraded enters ready or degraded, depending on SetHealth.
func (s *Server) setReadyOrDegraded(edit func(*Snapshot)) {
	before, reason := s.Snapshot().State, s.degradedReason()
	if reason == "" {
		s.transition(Ready, "", edit)
		if before == Degraded {
			s.log.Info().Msg(s.program + " is no longer degraded")
		}
		return
	}
	s.transition(Degraded, reason, edit)
	if before != Degraded {
		s.log.Warn().Msg(s.program + " is degraded; calls that another backend can serve bypass it: " + reason)
	}
}
