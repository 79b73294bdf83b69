package maintenance

import (
	"fmt"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// drainReport makes the steps of one server on its way out of use.
type drainReport struct {
	server string
	queued int // calls that were waiting for the server

	pid, calls             int // as last seen
	draining, late, ending bool
}

// steps returns what has happened since it was called last. calls are in flight, on the
// process pid; 0 = there is none.
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
		text := "new calls stay away"
		if r.queued > 0 {
			text += ", and " + plural(r.queued, "waiting call has left the queue", "waiting calls have left the queue")
		}
		add(control.StepDraining, text, calls, r.queued)
	}
	switch {
	case phase == Kept:
		add(control.StepKept, fmt.Sprintf("no calls any more; llama-server (pid %d) goes on, and keeps its VRAM", pid), calls, 0)
	case phase == Drained && r.pid == 0:
		add(control.StepStopped, "no llama-server runs", 0, 0)
	case phase == Drained:
		add(control.StepStopped, fmt.Sprintf("llama-server (pid %d) has ended", r.pid), 0, 0)
	case pid == 0:
		r.calls = calls
	case phase == Stopping:
		// Some may have moved by now, so the number is that of the last look. Calls that
		// end by themselves are gone for two looks before this.
		if moving := max(calls, r.calls); moving > 0 && !r.late {
			r.late = true
			add(control.StepRescuing, "the time is over: "+plural(moving, "call goes on elsewhere", "calls go on elsewhere"), moving, 0)
		}
		if !r.ending {
			r.ending = true
			add(control.StepStopping, fmt.Sprintf("stopping llama-server (pid %d)", pid), calls, 0)
		}
		r.calls = calls
	default:
		if calls != r.calls { // at first, none is not worth a step
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
