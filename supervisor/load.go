package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
	"github.com/llmsup/llmsup/supervisor/promptcache"
)

const (
	// progressInterval is how often load looks for progress.
	progressInterval = 100 * time.Millisecond
	// loadedInterval is how often a loading process is asked whether it is ready.
	// At first; a load is found to have ended at most a fiftieth of its time late.
	loadedInterval    = 50 * time.Millisecond
	maxLoadedInterval = time.Second
	groupInterval     = time.Second
	// progressBytes is how much a process has to read, or to grow, to make progress.
	// Its answers to probes need far less.
	progressBytes = 1 << 20
	// minComputing is the least CPU time that counts as progress; probes need less.
	minComputing = 100 * time.Millisecond
	// testCallRetry is the pause after a test call that failed.
	testCallRetry = time.Second
	// refusedRetry is the pause after the program has said that it supports no call.
	refusedRetry = 30 * time.Second
	// sleptAfter is how late a tick must be to show that llmsup itself did not run.
	sleptAfter = 5 * time.Second
)

// loadProgress detects whether processes make progress in loading a model. Each
// process is compared with itself, so that neither the end of a helper nor the start
// of another hides the work of the others.
type loadProgress struct {
	lines    uint64 // printed so far
	usage    map[int]process.Usage
	computes bool // computing is progress, too: a program may compile kernels for minutes

	at      time.Time // of the last progress
	checked time.Time // when check was last called
}

func newLoadProgress(computes bool) *loadProgress {
	return &loadProgress{usage: map[int]process.Usage{}, computes: computes, at: time.Now(), checked: time.Now()}
}

// made reports whether there was progress since it last reported some. Once the
// model is loaded, lines do not count: the probes themselves cause some.
func (p *loadProgress) made(lines uint64, usage map[int]process.Usage, loaded bool) bool {
	found := !loaded && lines > p.lines
	p.lines = max(p.lines, lines)
	enough := time.Duration(busyCores * float64(time.Since(p.at)))
	for pid, now := range usage {
		before := p.usage[pid]
		computed := p.computes && now.CPU-before.CPU > max(enough, minComputing)
		if computed || now.Read >= before.Read+progressBytes || now.Resident >= before.Resident+progressBytes {
			found = true
			p.usage[pid] = process.Usage{CPU: now.CPU, Read: max(now.Read, before.Read), Resident: max(now.Resident, before.Resident)}
		}
	}
	return found
}

// check returns an exit if there was no progress for a timeout. failure is why the last
// test call of a loaded model failed; nil = it is not loaded yet.
func (p *loadProgress) check(lines uint64, usage map[int]process.Usage, failure *error, timeout time.Duration) *Exit {
	// While llmsup itself did not run (SIGSTOP, a suspended machine), neither did the
	// process.
	if slept := time.Since(p.checked); slept > sleptAfter {
		p.at = p.at.Add(slept)
	}
	p.checked = time.Now()
	// Another start of a program that says that it supports no call would change nothing.
	if p.made(lines, usage, failure != nil) || failure != nil && errors.Is(*failure, ErrServesNothing) {
		p.at = time.Now()
		return nil
	}
	idle := time.Since(p.at)
	if idle < timeout {
		return nil
	}
	idle = idle.Round(time.Second)
	cause := fmt.Sprintf("it made no progress in loading for %s: no output, no reading, no growth", idle)
	if failure != nil {
		cause = fmt.Sprintf("it has loaded its model and answered no test call for %s: %v", idle, *failure)
	}
	return &Exit{Class: Stalled, Cause: cause}
}

// groupUsage reads the usage of a process's group. Finding out which processes
// belong to it costs more than reading their usage, and is done less often.
type groupUsage struct {
	members func() []int
	pids    []int
	at      time.Time
}

// read returns the usage of each process, and whether the group was read anew.
func (g *groupUsage) read() (usage map[int]process.Usage, renewed bool) {
	if renewed = time.Since(g.at) > groupInterval; renewed {
		g.pids, g.at = g.members(), time.Now()
	}
	return process.UsageOf(g.pids), renewed
}

// readiness is the result of awaitReady.
type readiness struct {
	properties Properties
	direct     bool // the process itself listens, not another one of its group
	err        error
}

// load follows a process until it is ready, which it has shown by answering a test
// call, until there is a verdict on it, or until it or ctx ends.
//
// Loading as such has no deadline: 40 GB take long from a slow disk. What ends it is
// LoadTimeout without progress.
func (s *Server) load(ctx context.Context, p child, command Command, probe Probe) (readyAt time.Time, verdict *Exit) {
	began := time.Now()
	probeCtx, stopProbing := context.WithCancel(ctx)
	result := make(chan readiness, 1)
	var failed atomic.Pointer[error] // why the last test call of a loaded model failed
	go func() { result <- s.awaitReady(probeCtx, p, command, probe, &failed) }()
	defer func() {
		stopProbing()
		if result != nil {
			<-result
		}
	}()

	group := groupUsage{members: func() []int { return s.members.Of(p.PID(), s.Snapshot().token) }}
	progress := newLoadProgress(command.Workers)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		s.heartbeat.beat()
		select {
		case <-ctx.Done():
			return time.Time{}, nil
		case <-p.Done():
			return time.Time{}, nil
		case <-tick.C:
			usage, renewed := group.read()
			if renewed {
				s.oom.Read()
			}
			failure := failed.Load()
			s.showFailure(failure)
			if failure != nil && errors.Is(*failure, ErrNoAnswer) {
				failure = nil // it may still be loading
			}
			if verdict := progress.check(s.output.Count(), usage, failure, s.spec.LoadTimeout); verdict != nil {
				return time.Time{}, verdict
			}
		case <-s.commands.pending:
			c, d := s.commands.peek(), s.commands.drainRequest()
			if c.replace || d != nil { // a process that is not ready has nothing worth keeping
				return time.Time{}, replacedExit(c, d)
			}
		case <-s.killRequested:
			if verdict := s.takeKillRequest(p.PID()); verdict != nil {
				return time.Time{}, verdict
			}
		case got := <-result:
			result = nil
			if ctx.Err() != nil {
				return time.Time{}, nil
			}
			if got.err != nil {
				return time.Time{}, &Exit{Class: PortTaken, Cause: got.err.Error() + "; the server gets no calls"}
			}
			got.direct = got.direct && !command.Workers
			resume := s.heartbeat.suspend()
			s.withCaches(ctx, p, probe, func(ctx context.Context, keeper promptcache.Process) { s.caches.Restore(ctx, keeper) })
			resume()
			s.setReady(got, time.Since(began))
			return time.Now(), nil
		}
	}
}

// showFailure makes the answer to the last test call of a loaded model, or that there is none to
// any question, the reason why it is not ready.
func (s *Server) showFailure(failure *error) {
	if failure == nil {
		if s.Snapshot().Reason != "" {
			s.transition(Loading, "", nil)
		}
		return
	}
	reason := (*failure).Error()
	if !errors.Is(*failure, ErrNoAnswer) {
		reason = "it has loaded its model, but answers no test call: " + reason
	}
	if s.Snapshot().Reason == reason {
		return
	}
	s.transition(Loading, reason, nil)
	s.log.Warn().Msg(s.program + " is not ready: " + reason)
}

// awaitReady probes until the model is loaded, the process or one of its group is
// what listens, and it answers a test call. failed receives why a
// test call failed, or that a question was not answered in time. Its only error, except at the end of ctx, is process.ErrForeignListener.
func (s *Server) awaitReady(ctx context.Context, p child, command Command, probe Probe, failed *atomic.Pointer[error]) readiness {
	tick := time.NewTicker(loadedInterval)
	defer tick.Stop()
	began, at := time.Now(), command.Endpoint
	direct, verified := false, command.Stop != nil // what listens for a container is not one of its processes
	for {
		err := probe.Loaded(ctx)
		if !verified && (err == nil || errors.Is(err, ErrLoading)) { // a process listens: which one?
			var listenerErr error
			if direct, listenerErr = s.verifyListener(ctx, at.Network, at.Address, p.PID(), command.token); errors.Is(listenerErr, process.ErrForeignListener) {
				return readiness{err: listenerErr}
			}
			verified = listenerErr == nil
		}
		if errors.Is(err, ErrNoAnswer) {
			failed.Store(&err)
		} else if last := failed.Load(); last != nil && errors.Is(*last, ErrNoAnswer) {
			failed.Store(nil)
		}
		tick.Reset(min(max(time.Since(began)/50, loadedInterval), maxLoadedInterval))
		if err == nil && verified {
			err := probe.TestCall(ctx)
			if err == nil {
				properties, _ := probe.Properties(ctx) // those of a build without them stay unknown
				return readiness{properties: properties, direct: direct}
			}
			failed.Store(&err)
			tick.Reset(testCallRetry)
			if errors.Is(err, ErrServesNothing) {
				tick.Reset(refusedRetry)
			}
		}
		select {
		case <-ctx.Done():
			return readiness{err: ctx.Err()}
		case <-tick.C:
		}
	}
}

// setReady publishes that the server answers.
func (s *Server) setReady(r readiness, loading time.Duration) {
	s.serving.Store(true)
	if r.properties.Description.Abilities != nil {
		s.description = &r.properties.Description
	}
	s.setReadyOrDegraded(func(n *Snapshot) {
		n.Slots, n.Direct, n.LoadDuration = r.properties.Slots, r.direct, loading
		if r.properties.CtxSize > 0 {
			n.CtxSize = r.properties.CtxSize
		}
	})
	s.log.Info().Int("slots", r.properties.Slots).Int("ctx_size", r.properties.CtxSize).
		Int64("load_ms", loading.Milliseconds()).Msg(s.program + " is ready")
}
