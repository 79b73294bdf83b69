package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// The steps of a drain, and of its end. They come from the servers' snapshots, so that
// they are what has happened, and not what was requested.

// watchDrain emits a drain's steps until it is done or taken back.
func (d *Daemon) watchDrain(o *operation, queued map[string]int, warning string) {
	ctx, cancel := context.WithCancel(d.serving)
	defer cancel()
	go func() {
		select {
		case <-o.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	warn := sync.OnceFunc(func() { // after the first line, which says that calls stay away
		if warning != "" {
			o.tell(control.Step{Step: control.StepWarning, Text: warning})
		}
	})
	defer warn()
	var all sync.WaitGroup
	var held atomic.Int32 // servers whose VRAM is not free
	for _, s := range o.servers {
		all.Go(func() {
			if !d.watchDrained(ctx, o, s, queued[s.name], warn) {
				held.Add(1)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		o.end(control.StepFailed, errStopping.Error()+"; the drain goes on when it is started again")
		return
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if o.isOver() { // it was taken back at this moment
		return
	}
	warn()
	if held.Load() > 0 {
		o.end(control.StepFailed, "drained, but not all VRAM is free; llmsup status shows who holds it")
		return
	}
	o.end(control.StepDrained, "drained; "+d.drains.Outlook(namesOf(o.servers), o.named))
	d.releaseDriver()
}

const stepLook = 50 * time.Millisecond

// watchDrained emits the steps of one server on its way out of use. queued calls were
// waiting for it. It returns false when its VRAM is not released.
func (d *Daemon) watchDrained(ctx context.Context, o *operation, s *served, queued int, begun func()) (free bool) {
	tell := func(step, text string, calls int) {
		o.tell(control.Step{Server: s.name, Step: step, Text: text, Calls: calls})
	}
	tick := time.NewTicker(stepLook)
	defer tick.Stop()
	pid, calls, told := 0, -1, map[string]bool{}
	once := func(step, text string, calls int) {
		if !told[step] {
			told[step] = true
			tell(step, text, calls)
		}
	}
	begins := func(calls int) {
		if told[control.StepDraining] {
			return
		}
		told[control.StepDraining] = true
		text := "new calls stay away"
		if queued > 0 {
			text += ", and " + plural(queued, "waiting call has left the queue", "waiting calls have left the queue")
		}
		o.tell(control.Step{Server: s.name, Step: control.StepDraining, Text: text, Calls: calls, Queued: queued})
		begun()
	}
	for {
		now := s.server.Snapshot()
		running := d.router.Traffic(s.name).Calls
		if now.PID != 0 {
			pid = now.PID
		}
		drain, _ := d.drains.snapshot().Of(s.name)
		switch {
		case now.State == supervisor.Drained && now.PID != 0 && drain.KeepServer:
			begins(running)
			tell(control.StepKept, fmt.Sprintf("no calls any more; llama-server (pid %d) goes on, and keeps its VRAM", now.PID), running)
			return true
		case now.State == supervisor.Drained && now.PID == 0, now.State == supervisor.Stopped:
			begins(running)
			if pid == 0 {
				tell(control.StepStopped, "no llama-server runs", 0)
			} else {
				tell(control.StepStopped, fmt.Sprintf("llama-server (pid %d) has ended", pid), 0)
			}
			return d.watchVRAM(ctx, s, tell)
		case now.State != supervisor.Draining: // the request has not reached its owner yet
		default:
			begins(running)
			switch {
			case now.PID != 0 && ended(now):
				// Some may have moved by now: those are meant that were there at the last
				// look. Calls that end by themselves are gone for two looks before this.
				if moving := max(running, calls); moving > 0 {
					once(control.StepRescuing, fmt.Sprintf("the time is over: %s", plural(moving, "call goes on elsewhere", "calls go on elsewhere")), moving)
				}
				once(control.StepStopping, fmt.Sprintf("stopping llama-server (pid %d)", now.PID), running)
			case running != max(calls, 0) && now.PID != 0: // at first, none is not worth a word
				tell(control.StepRunning, plural(running, "call has to end first", "calls have to end first"), running)
			}
			calls = running
		}
		select {
		case <-ctx.Done():
			return true
		case <-now.Changed:
		case <-tick.C:
		}
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// vramPatience is how long the driver may take to release the VRAM of a process that
// has ended, before the drain fails.
const vramPatience = 15 * time.Second

func (d *Daemon) watchVRAM(ctx context.Context, s *served, tell func(step, text string, calls int)) (free bool) {
	held, problem := s.tenant.holding()
	if problem != "" {
		tell(control.StepVRAM, problem, 0)
		return true
	}
	tick := time.NewTicker(stepLook)
	defer tick.Stop()
	for deadline := time.Now().Add(vramPatience); ; {
		missing := s.tenant.Outstanding()
		switch {
		case missing == "":
			tell(control.StepVRAM, "its VRAM is free: "+held, 0)
			return true
		case time.Now().After(deadline):
			tell(control.StepVRAM, "its VRAM is not free: "+missing, 0)
			return false
		}
		select {
		case <-ctx.Done():
			return true
		case <-tick.C:
		}
	}
}

// watchReturns emits the steps of an operation's servers on their way back into use,
// from the snapshots before it.
func (d *Daemon) watchReturns(o *operation, before map[string]*supervisor.Snapshot) {
	var all sync.WaitGroup
	var failed atomic.Int32
	for _, s := range o.servers {
		all.Go(func() {
			if !d.watchReturn(o, s, before[s.name]) {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 {
		o.end(control.StepFailed, "not all servers came back; llmsup logs shows what llama-server printed")
		return
	}
	o.end(control.StepResumed, "in use again")
}

// watchReturn emits the steps of one server on its way back into use, and returns
// whether it is ready.
func (d *Daemon) watchReturn(o *operation, s *served, before *supervisor.Snapshot) (ready bool) {
	tell := func(step, text string) {
		o.tell(control.Step{Server: s.name, Step: step, Text: text})
	}
	told := ""
	for {
		now := s.server.Snapshot()
		failed := now.LastExit != nil && now.LastExit != before.LastExit
		words := now.State.String()
		if now.Reason != "" {
			words += ": " + now.Reason
		}
		switch {
		case now.State.Alive() && now.PID == before.PID: // it has not had to prove itself
			if err := d.prove(s); err != nil && d.serving.Err() != nil {
				o.end(control.StepFailed, errStopping.Error())
				return false
			} else if err != nil {
				tell(control.StepFailed, "answered no completion: "+err.Error())
				return false
			}
			tell(control.StepReady, "has answered a completion, and is "+words)
			return true
		case now.State.Alive():
			tell(control.StepReady, "has answered a completion, and is "+words)
			return true
		case now.State == supervisor.Failed, failed:
			tell(control.StepFailed, "did not come back: "+words)
			return false
		case s.leaving && now.State == supervisor.Stopped: // for good
			return true
		case now.State == supervisor.Draining, now.State == supervisor.Drained && now.PID == 0: // the request has not reached its owner yet
		case words != told:
			told = words
			tell(control.StepStarting, words)
		}
		select {
		case <-o.over: // another command has taken its place
			return true
		case <-s.ctx.Done(): // llmsup stops, or a reload has removed it
			if d.serving.Err() != nil {
				o.end(control.StepFailed, errStopping.Error())
			}
			return d.serving.Err() == nil
		case <-now.Changed:
		}
	}
}

// proofTime is how long a server that is in use may take for a completion: there
// may be calls before it.
const proofTime = time.Minute

func (d *Daemon) prove(s *served) error {
	ctx, cancel := context.WithTimeout(s.ctx, proofTime)
	defer cancel()
	return s.server.Prove(ctx)
}
