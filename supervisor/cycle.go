package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/supervisor/process"
	"github.com/llmsup/llmsup/supervisor/promptcache"
)

// cycle is one life of a process: it waits for the process's VRAM, runs it, and
// pauses after an exit that no command caused.
func (s *Server) cycle(ctx context.Context) {
	s.describe(ctx)
	s.transition(Starting, "", func(n *Snapshot) {
		noProcess(n)
		n.Model, n.CtxSize = s.spec.Model, s.spec.CtxSize
	})
	if !s.awaitVRAM(ctx) {
		return
	}
	exit, ready := s.runProcess(ctx)
	if ctx.Err() != nil {
		return
	}
	s.lastClass = exit.Class
	switch {
	case exit.Class == Replaced:
	case s.isDrained(): // its exit has no consequences
		s.transition(s.commands.drainRequest().leaving(), exit.Cause, func(n *Snapshot) { noProcess(n); n.LastExit = exit })
	default:
		s.history = s.history.after(exit.Class, ready)
		s.backOff(ctx, exit)
	}
}

// runProcess runs a process from its start to its end, and returns for how long it
// was ready.
func (s *Server) runProcess(ctx context.Context) (exit *Exit, ready time.Duration) {
	tail := &output.Tail{}
	engine := s.engine
	out := &output.LineWriter{Emit: func(line string) {
		if _, _, ok := engine.LogLine(line, false); !ok {
			return
		}
		tail.Add(line)
		s.output.Add(line, s.serving.Load())
	}}
	s.serving.Store(false)
	s.oom = process.NewOOMWatch()
	s.countStart()
	p, command, err := s.start(ctx, out)
	if err != nil {
		return s.failedStart(err), 0
	}
	endpoint := command.Endpoint
	s.exited, s.asleep = make(chan struct{}), time.Time{}
	s.transition(Loading, "", func(n *Snapshot) {
		n.PID, n.Endpoint, n.Exited, n.Hung = p.PID(), endpoint, s.exited, false
		n.Restarts, n.RestartsBy, n.Direct = s.starts-1, s.restartsBy, false
		n.Slots, n.CtxSize, n.token = 0, s.spec.CtxSize, ""
		if command.Workers {
			n.token = command.token
		}
	})

	probe := s.engine.Probe(endpoint, s.Snapshot().description(), s.probeTimeout())
	readyAt, verdict := s.load(ctx, p, command, probe)
	if !readyAt.IsZero() {
		verdict = s.monitor(ctx, p, probe)
	}
	grace := s.endUse(ctx, verdict)
	resume := s.heartbeat.suspend()
	if !readyAt.IsZero() && verdict != nil && verdict.Class == Replaced && s.Snapshot().State == Unloading {
		s.withCaches(ctx, p, probe, func(ctx context.Context, keeper promptcache.Process) {
			s.observeCaches(probe.Sample(ctx)) // the last one may be older than its first long prompt
			s.caches.Save(ctx, keeper)
		})
	}
	gone := s.runStopCommand(p, command)
	p.Stop(grace, s.forceStop)
	process.KillMarked(command.token)
	resume()
	out.Flush()
	if gone { // otherwise the next llmsup runs the stop command
		process.RemovePIDFile(s.spec.Dir)
	}
	if endpoint.Network == "unix" {
		_ = os.Remove(endpoint.Address) // a program that is killed leaves it
	}

	ended := p.Wait()
	if !readyAt.IsZero() {
		ready = ended.At.Sub(readyAt)
	}
	exit = &Exit{At: ended.At, Code: ended.Code, Signal: ended.Signal, Tail: tail.Lines(), Served: s.serving.Load()}
	if verdict != nil {
		exit.Class, exit.Cause = verdict.Class, verdict.Cause
		return exit, ready
	}
	d := classify(s.engine, *exit, s.oom.Killed())
	exit.Class, exit.Cause = d.Class, describe(*exit, d)
	return exit, ready
}

// verdictGrace is the grace of a process that llmsup ends because it hangs. Such a
// process often does not react to SIGTERM.
const verdictGrace = time.Second

// endUse takes the process out of use, and returns what grace it gets. Since the
// state changes first, the process gets no new call from here on; then Exited is
// closed, so that calls that wait for it move elsewhere before it is stopped.
func (s *Server) endUse(ctx context.Context, verdict *Exit) (grace time.Duration) {
	grace = s.spec.StopGrace
	drain := s.commands.drainRequest()
	switch {
	case ctx.Err() != nil:
		s.transition(Draining, "llmsup is stopping", nil)
	case verdict != nil && verdict.Class == Replaced:
		s.transition(leavingState(s.commands.peek(), drain), verdict.Cause, nil)
	case drain != nil:
		s.transition(drain.leaving(), drain.Reason, nil)
		if verdict != nil {
			grace = verdictGrace
		}
	case verdict != nil:
		s.transition(Restarting, verdict.Cause, func(n *Snapshot) { n.Hung = verdict.Class == Hung })
		grace = verdictGrace
	default:
		s.transition(Restarting, "the process has ended", nil)
	}
	close(s.exited)
	return grace
}

// withCaches calls a function if the process can save its prompt caches. The function's context
// also ends with the process, and when llmsup is stopped at once.
func (s *Server) withCaches(ctx context.Context, p child, probe Probe, f func(context.Context, promptcache.Process)) {
	keeper, ok := probe.(promptcache.Process)
	if !ok || !s.savesCaches {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ctx.Done():
		case <-p.Done():
		case <-s.forceStop:
		}
		cancel()
	}()
	f(ctx, keeper)
}

func (s *Server) observeCaches(now Sample) {
	s.caches.Observe(now.CachedTokens, now.PromptTokens, now.PromptSeconds)
}

// countStart counts a start, and the class of the exit that it follows.
func (s *Server) countStart() {
	if s.starts++; s.starts == 1 {
		return
	}
	counts := maps.Clone(s.restartsBy) // snapshots share the old one
	if counts == nil {
		counts = map[Class]int{}
	}
	counts[s.lastClass]++
	s.restartsBy = counts
}

// startProcess starts the engine's program. If it fails, nothing is left running.
func (s *Server) startProcess(ctx context.Context, out io.Writer) (child, Command, error) {
	if err := os.MkdirAll(s.spec.Dir, 0o700); err != nil {
		return nil, Command{}, fmt.Errorf("create the server's folder: %w", err)
	}
	spec := s.spec
	spec.CacheFolder = s.caches.Prepare(spec.KeepCaches, spec.fileState()+fmt.Sprint(spec.Model, spec.Binary, spec.CtxSize, spec.NGPULayers, spec.Args))
	command, err := s.engine.Command(ctx, spec, s.Snapshot().description())
	if err != nil {
		return nil, Command{}, err
	}
	s.savesCaches = command.SavesCaches
	command.token = rand.Text()
	run := process.Command{Path: command.Path, Args: command.Args, Env: command.Env, Token: command.token, Stop: command.Stop, Port: command.Endpoint.Port()}
	p, err := process.Start(run, out)
	if err != nil {
		return nil, Command{}, err
	}
	if err := process.WritePIDFile(s.spec.Dir, p.PID(), run); err != nil {
		// Without it the kernel still ends the process with llmsup.
		s.log.Warn().Err(err).Msg("cannot write the pid file; if llmsup is killed, check that no process of this server is left")
	}
	s.log.Info().Int("pid", p.PID()).Str("model", s.spec.Model).Str("listens", command.Endpoint.Address).Msg(s.program + " started")
	return p, command, nil
}

// failedStart returns the exit of a process that could not be started.
func (s *Server) failedStart(err error) *Exit {
	e := Exit{At: time.Now(), Code: -1, Class: Unknown}
	var failed *process.CommandError
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		e.Class = MissingBinary
	case errors.As(err, &failed): // the program fails even if it is only asked for its --help
		e.Tail = []string{failed.LastLine}
		e.Class = classify(s.engine, Exit{Code: failed.Exit.Code, Signal: failed.Exit.Signal, Tail: e.Tail}, false).Class
	}
	e.Cause = err.Error()
	e.Cause = describe(e, classify(s.engine, e, false))
	return &e
}
