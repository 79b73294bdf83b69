package maintenance

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// The steps of a drain or a resume come from the servers' snapshots: they show what has
// happened, not what was requested.

// watchDrain emits a drain's steps until it is done or cancelled.
func (m *Manager) watchDrain(o *operation, queued map[string]int, warning string) {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	go func() {
		select {
		case <-o.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	warn := sync.OnceFunc(func() { // after the first step, that the server gets no new calls
		if warning != "" {
			o.emit(control.Step{Step: control.StepWarning, Text: warning})
		}
	})
	defer warn()
	var all sync.WaitGroup
	var held atomic.Int32 // servers whose VRAM is not free
	for _, s := range o.servers {
		all.Go(func() {
			if !m.watchDrained(ctx, o, s, queued[s.Name], warn) {
				held.Add(1)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		o.end(control.StepFailed, ErrStopping.Error()+"; the drain continues at the next start")
		return
	}
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	if o.isDone() { // it was cancelled at this moment
		return
	}
	warn()
	if held.Load() > 0 {
		o.end(control.StepFailed, "drained, but not all VRAM is free; llmsup status shows which processes hold it")
		return
	}
	o.end(control.StepDrained, "drained; "+m.Record().ResumeHint(namesOf(o.servers), o.named))
	m.releaseDriver()
}

// pollInterval is the interval between reads of a server's calls or VRAM.
const pollInterval = 50 * time.Millisecond

// watchDrained emits the steps of a server's drain. queued calls waited for it when the
// drain began. It returns false if the driver does not release its VRAM.
func (m *Manager) watchDrained(ctx context.Context, o *operation, s Server, queued int, begun func()) (free bool) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	phase, report := Requested, drainReport{server: s.Name, queued: queued}
	for {
		now := s.Process.Snapshot()
		calls := s.Load().Calls
		drain, _ := m.Record().Of(s.Name)
		phase = phase.next(drainCommand, observation{
			state: now.State, running: now.PID != 0, exiting: closed(now.Exited), keep: drain.KeepServer,
		})
		for _, step := range report.steps(phase, now.PID, calls) {
			o.emit(step)
			if step.Step == control.StepDraining {
				begun()
			}
		}
		switch phase {
		case Kept:
			return true
		case Drained:
			return m.watchVRAM(ctx, o, s)
		default:
		}
		select {
		case <-ctx.Done():
			return true
		case <-now.Changed:
		case <-tick.C:
		}
	}
}

// closed reports whether a channel is closed. A nil channel is not.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// vramTimeout is the time for the driver to release the VRAM of a process that has ended.
// After it the drain fails.
const vramTimeout = 15 * time.Second

func (m *Manager) watchVRAM(ctx context.Context, o *operation, s Server) (free bool) {
	emit := func(text string) { o.emit(control.Step{Server: s.Name, Step: control.StepVRAM, Text: text}) }
	held, problem := s.VRAM.Held()
	if problem != "" {
		emit(problem)
		return true
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for deadline := time.Now().Add(vramTimeout); ; {
		outstanding := s.VRAM.UnreclaimedVRAM()
		switch {
		case outstanding == "":
			emit("its VRAM is free: " + held)
			return true
		case time.Now().After(deadline):
			emit("its VRAM is not free: " + outstanding)
			return false
		}
		select {
		case <-ctx.Done():
			return true
		case <-tick.C:
		}
	}
}

// watchReturns emits the steps of a resume's servers. before has their snapshots from
// before the command.
func (m *Manager) watchReturns(o *operation, before map[string]*supervisor.Snapshot) {
	var all sync.WaitGroup
	var failed atomic.Int32
	for _, s := range o.servers {
		all.Go(func() {
			if !m.watchReturn(o, s, before[s.Name]) {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		o.end(control.StepFailed, "not all servers returned to use; llmsup logs shows what they printed")
		return
	}
	o.end(control.StepResumed, "in use again")
}

// watchReturn emits the steps of a server's resume, and returns whether it is ready.
func (m *Manager) watchReturn(o *operation, s Server, before *supervisor.Snapshot) (ready bool) {
	emit := func(step, text string) { o.emit(control.Step{Server: s.Name, Step: step, Text: text}) }
	emitted := "" // the last state that was emitted
	for phase := Requested; ; {
		now := s.Process.Snapshot()
		seen := observation{
			state: now.State, running: now.PID != 0, same: now.PID == before.PID,
			exited: now.LastExit != nil && now.LastExit != before.LastExit, removed: s.Removed,
		}
		phase = phase.next(resumeCommand, seen)
		state := now.State.String()
		if now.Reason != "" {
			state += ": " + now.Reason
		}
		failure := "did not return to use: " + state
		if phase == Verifying {
			err := m.verify(s)
			if err != nil && m.ctx.Err() != nil {
				o.end(control.StepFailed, ErrStopping.Error())
				return false
			}
			seen.testCall = answered
			if err != nil {
				seen.testCall, failure = unanswered, "answered no test call: "+err.Error()
			}
			phase = phase.next(resumeCommand, seen)
		}
		switch phase {
		case InUse:
			emit(control.StepReady, "has answered a test call, and is "+state)
			return true
		case Unloaded:
			emit(control.StepReady, "is "+state)
			return true
		case Failed:
			emit(control.StepFailed, failure)
			return false
		case Removed: // and it has ended
			return true
		case Starting:
			if state != emitted {
				emitted = state
				emit(control.StepStarting, state)
			}
		default:
		}
		select {
		case <-o.done: // another command has replaced it
			return true
		case <-s.Context.Done(): // llmsup stops, or a reload has removed the server
			if m.ctx.Err() != nil {
				o.end(control.StepFailed, ErrStopping.Error())
			}
			return m.ctx.Err() == nil
		case <-now.Changed:
		}
	}
}

// verifyTimeout is the time for the test call that verifies a server. Other calls may be
// ahead of it.
const verifyTimeout = time.Minute

func (m *Manager) verify(s Server) error {
	ctx, cancel := context.WithTimeout(s.Context, verifyTimeout)
	defer cancel()
	return s.Process.Verify(ctx)
}
