package maintenance

import (
	"fmt"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// drainReport generates the steps of a server's drain.
type drainReport struct {
	server string
	queued int // calls that waited for the server when the drain began

	pid, calls                   int // as last seen
	draining, timedOut, stopping bool
}

// steps returns what has happened since the last call. calls are in flight, on the process
// pid; 0 = there is none.
func (r *drainReport) steps(phase Phase, pid, calls int) (steps []control.Step) {
	if pid != 0 {
		r.pid = pid
	}
	if phase == Requested {
		return nil
	}
	add := func(step, text string, calls, queued int) {
		steps = append(steps, control.Step{Server: r.server, Step: step, Text: text, Calls: calls, Queued: queued})
	}
	if !r.draining {
		r.draining = true
		text := "it gets no new calls"
		if r.queued > 0 {
			text += ", and " + plural(r.queued, "waiting call has left the queue", "waiting calls have left the queue")
		}
		add(control.StepDraining, text, calls, r.queued)
	}
	switch {
	case phase == Kept:
		add(control.StepKept, fmt.Sprintf("no calls any more; its process (pid %d) keeps running and keeps its VRAM", pid), calls, 0)
	case phase == Drained && r.pid == 0:
		add(control.StepStopped, "none of its processes runs", 0, 0)
	case phase == Drained:
		add(control.StepStopped, fmt.Sprintf("its process (pid %d) has ended", r.pid), 0, 0)
	case pid == 0:
		r.calls = calls
	case phase == Stopping:
		// Some calls may have moved already, so the number is that of the last poll. Calls
		// that have ended by themselves are missing from two polls before this.
		if moving := max(calls, r.calls); moving > 0 && !r.timedOut {
			r.timedOut = true
			add(control.StepRescuing, "the time is over: "+plural(moving, "call continues elsewhere", "calls continue elsewhere"), moving, 0)
		}
		if !r.stopping {
			r.stopping = true
			add(control.StepStopping, fmt.Sprintf("stopping its process (pid %d)", pid), calls, 0)
		}
		r.calls = calls
	default:
		if calls != r.calls { // no step if there are none at first
			add(control.StepRunning, plural(calls, "call has to end first", "calls have to end first"), calls, 0)
		}
		r.calls = calls
	}
	return steps
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
