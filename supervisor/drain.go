package supervisor

import (
	"context"
	"fmt"
	"time"
)

// DrainOptions is an operator's request to take a server out of use, or the scheduler's to
// unload its model.
type DrainOptions struct {
	Until  time.Time // its calls may run until then, and are aborted after that; zero = for ten minutes
	Ends   time.Time // when the drain ends by itself, for Snapshot.DrainEnds; zero = only with Resume
	Keep   bool      // a ready process stays, with the VRAM that it holds
	Reason string    // one line for a person

	unload bool // it is an unload: a call may end it
}

// leaving returns the state in which the calls of a server end; nil = those of a process
// that is replaced.
func (d *DrainOptions) leaving() State {
	if d != nil && d.unload {
		return Unloading
	}
	return Draining
}

// left returns the state of a server without calls.
func (d *DrainOptions) left() State {
	if d.unload {
		return Unloaded
	}
	return Drained
}

// Drain takes the server out of use until Resume: it gets no new calls from now on,
// and is stopped when its calls have ended. It stays drained whatever becomes of its
// process. Another Drain before Resume replaces the options.
func (s *Server) Drain(d DrainOptions) { s.commands.setDrain(&d) }

// Resume ends a Drain. A process that still runs is used again once it has answered
// a test call; otherwise another one is started.
func (s *Server) Resume() { s.commands.setDrain(nil) }

// Unload stops the process, as Drain does, until Load: its VRAM is needed elsewhere, or it
// is idle. The server is unloading and then unloaded, and no operator's drain is in force.
func (s *Server) Unload(d DrainOptions) {
	d.unload, d.Keep, d.Ends = true, false, time.Time{}
	s.commands.setUnload(&d)
}

// Load ends an Unload. An operator's drain stays in force.
func (s *Server) Load() { s.commands.setUnload(nil) }

// Verify makes a test call to a server that is in use, and returns why it was not
// answered.
func (s *Server) Verify(ctx context.Context) error {
	now := s.Snapshot()
	if !now.State.Alive() {
		return fmt.Errorf("it is %s", now.State)
	}
	return s.probe(now).TestCall(ctx)
}

// activeDrain returns the drain in force, unless the server is to be removed.
func (s *Server) activeDrain() *DrainOptions {
	if s.commands.peek().remove {
		return nil
	}
	return s.commands.drainRequest()
}

// isDrained reports whether a drain is in force. With DrainOptions.Keep, a process that
// is ready stays nevertheless.
func (s *Server) isDrained() bool { return s.activeDrain() != nil }

// runDrained waits, without a process, until the server is resumed or removed, or
// ctx ends.
func (s *Server) runDrained(ctx context.Context) {
	s.describe(ctx)
	for {
		d := s.activeDrain()
		if d == nil {
			s.history = history{}
			return
		}
		if !mayFollow(s.Snapshot().State, d.left()) {
			s.transition(d.leaving(), d.Reason, noProcess)
		}
		s.transition(d.left(), d.Reason, func(n *Snapshot) {
			noProcess(n)
			if spec := s.commands.peek().spec; spec != nil { // a reload has changed what the next start runs
				n.Model, n.CtxSize = spec.Model, spec.CtxSize
			}
		})
		if !s.awaitCommand(ctx) {
			return
		}
	}
}

// drain is the drainPhase of a ready process, and what the phase waits for. It is
// the owner goroutine's. The zero value is a process in use.
type drain struct {
	phase      drainPhase
	cancel     context.CancelFunc // ends the wait of the phase; nil = it waits for nothing
	callsEnded <-chan struct{}    // in draining: closed when the calls have ended, or have had their time
	verified   <-chan error       // in verifying: receives why the test call failed
	slept      <-chan error       // in sleeping: receives why the engine does not release its VRAM
}

// enter sets the phase, and ends the wait of the one before.
func (d *drain) enter(phase drainPhase) {
	if phase == d.phase {
		return
	}
	if d.cancel != nil {
		d.cancel()
	}
	*d = drain{phase: phase}
}

// advanceDrain moves a ready process to the phase that follows an event. It returns
// an exit if the process is to be stopped now. run starts a goroutine that may last
// until ctx ends.
func (s *Server) advanceDrain(ctx context.Context, d *drain, event drainEvent, failure error, probe Probe, run func(func())) (verdict *Exit) {
	commanded, request := s.commands.peek(), s.commands.drainRequest()
	before := d.phase
	sleeper, sleeps := probe.(Sleeper)
	goal := goalOf(commanded, request, sleeps)
	d.enter(before.next(event, goal))
	switch d.phase {
	case inUse:
		if before != inUse {
			s.backInUse()
		}
	case draining:
		s.asleep = time.Time{}
		s.transition(leavingState(commanded, request), replaceReason(commanded, request)+"; its calls end first", nil)
		if before != draining {
			waitCtx, cancel := context.WithCancel(ctx)
			ended := make(chan struct{})
			d.cancel, d.callsEnded = cancel, ended
			run(func() { s.awaitCalls(waitCtx, ended) })
		}
	case sleeping:
		s.transition(leavingState(commanded, request), replaceReason(commanded, request)+"; it releases its VRAM first", nil)
		if before != sleeping {
			d.slept = inTime(ctx, s.spec.LoadTimeout, sleeper.Sleep, &d.cancel, run)
			s.renewExited()
		}
	case kept:
		if before == draining {
			s.renewExited()
		}
		if event == slept {
			s.asleep = time.Now()
		}
		s.transition(request.left(), request.Reason, func(n *Snapshot) { n.Exited = s.exited })
	case verifying:
		if before != verifying {
			d.verified = s.bringBack(ctx, probe, &d.cancel, run)
		}
	case ending:
		if event == sleepFailed {
			s.log.Warn().Err(failure).Msg(s.program + " does not release its VRAM; its process is ended instead")
		} else if failure != nil && goal == goalUse {
			return &Exit{Class: Hung, Cause: "it was to be used again, and did not answer a test call: " + failure.Error()}
		}
		return replacedExit(commanded, request)
	}
	return nil
}

// renewExited makes the calls of a process that stays move elsewhere: they have had their
// time, and no answer yet.
func (s *Server) renewExited() {
	exited := s.exited
	s.exited = make(chan struct{})
	s.transition(s.Snapshot().State, s.Snapshot().Reason, func(n *Snapshot) { n.Exited = s.exited })
	close(exited)
}

// outcome returns the event of something that has failed with an error, or succeeded.
func outcome(err error, succeeded, failed drainEvent) drainEvent {
	if err != nil {
		return failed
	}
	return succeeded
}

// replacedExit is the exit of a process that is stopped because of a command or a
// drain.
func replacedExit(c command, d *DrainOptions) *Exit {
	if c.replace || d == nil {
		return &Exit{Class: Replaced, Cause: c.reason()}
	}
	return &Exit{Class: Replaced, Cause: d.Reason}
}

// leavingState returns the state of a process whose calls end because of a command or a
// drain.
func leavingState(c command, d *DrainOptions) State {
	if c.replace {
		return Draining
	}
	return d.leaving()
}

// replaceReason returns why a process is drained.
func replaceReason(c command, d *DrainOptions) string {
	if d != nil {
		return d.Reason
	}
	return c.reason()
}

const (
	drainTimeout      = 10 * time.Minute
	callsPollInterval = 50 * time.Millisecond
)

// awaitCalls closes ended when the server has no calls any more, or when they have
// had the time that they were given. It has to find no calls twice in a row: one may
// be on its way from the router, which chose the server just before it began to drain.
func (s *Server) awaitCalls(ctx context.Context, ended chan<- struct{}) {
	tick := time.NewTicker(callsPollInterval)
	defer tick.Stop()
	began := time.Now()
	for idle := 0; idle < 2 && time.Now().Before(s.commands.drainDeadline(began)); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		idle++
		if s.spec.Traffic().Calls > 0 {
			idle = 0
		}
	}
	close(ended)
}

// drainDeadline returns until when the calls may run of a server that has been
// draining since began.
func (b *commandBox) drainDeadline(began time.Time) time.Time {
	if d := b.drainRequest(); d != nil && !d.Until.IsZero() {
		return d.Until
	}
	return began.Add(drainTimeout)
}
