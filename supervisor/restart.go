package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = time.Second
	backoffMax   = time.Minute
	// forgetAfter is how long a server has to have been ready for its earlier
	// failures to be forgotten.
	forgetAfter = 10 * time.Minute
)

// history is the input of the restart policy: the exits of a server that no command
// caused. The zero value is a server that has not failed.
type history struct {
	failures int   // exits in a row
	class    Class // of the last of them
	same     int   // how many in a row were of that class
}

// after returns the history after another exit. ready is for how long the process
// had been ready, 0 if it never was.
func (h history) after(class Class, ready time.Duration) history {
	if ready >= forgetAfter {
		h = history{}
	}
	if h.class != class {
		h.class, h.same = class, 0
	}
	h.same++
	h.failures++
	return h
}

// decide returns what to do after the last exit: to give up, or to start again after
// a pause. jitter, in [0,1), subtracts up to a fifth from the pause. It spreads the
// starts of several machines that lost the same disk.
//
// A permanent failure is tried once more all the same: a file may have been replaced
// at that very moment.
func (h history) decide(jitter float64) (pause time.Duration, giveUp bool) {
	if h.class.Permanent() && h.same >= 2 {
		return 0, true
	}
	pause = backoffMax
	if h.failures < 7 { // 1 s << 6 is beyond backoffMax already
		pause = min(backoffFirst<<max(h.failures-1, 0), backoffMax)
	}
	return pause - time.Duration(jitter*float64(pause)/5), false
}

// backOff waits between an exit that no command caused and the next start.
func (s *Server) backOff(ctx context.Context, exit *Exit) {
	ended := func(n *Snapshot) {
		noProcess(n)
		n.LastExit, n.Restarts, n.RestartsBy = exit, s.starts-1, s.restartsBy
	}
	event := s.log.Error().Str("class", string(exit.Class)).Int("code", exit.Code).Strs("tail", s.loggableTail(exit))
	if exit.Signal != "" {
		event.Str("signal", exit.Signal)
	}
	if s.commands.peek().replace { // it exited before the command was applied
		s.transition(Restarting, exit.Cause, ended)
		event.Msg(s.program + " ended: " + exit.Cause)
		return
	}
	pause, giveUp := s.history.decide(rand.Float64())
	if giveUp {
		const until = "no further start until `llmsup restart` or `llmsup reload`, or a change of the model's file"
		s.transition(Failed, exit.Cause+"; "+until, ended)
		event.Msg(s.program + " failed for good: " + exit.Cause)
		s.awaitChange(ctx)
		return
	}
	s.transition(Restarting, fmt.Sprintf("%s; next start in %s", exit.Cause, pause.Round(100*time.Millisecond)), func(n *Snapshot) {
		ended(n)
		n.NextStart = time.Now().Add(pause)
	})
	event.Int64("next_start_ms", pause.Milliseconds()).Msg(s.program + " ended: " + exit.Cause)
	for end := time.Now().Add(pause); time.Until(end) > 0; {
		if !s.pause(ctx, min(time.Until(end), heartbeatInterval)) && s.mustReact(ctx) {
			return
		}
	}
}

// fileCheckInterval is how often a server that has given up checks whether its
// files have changed.
const fileCheckInterval = 2 * time.Second

// awaitChange waits until another start may end differently.
func (s *Server) awaitChange(ctx context.Context) {
	before := s.spec.fileState()
	for {
		if !s.pause(ctx, fileCheckInterval) {
			if s.mustReact(ctx) {
				return
			}
			continue
		}
		if s.spec.fileState() != before {
			s.log.Info().Msg("the model's file, or the program, has changed; starting again")
			s.history = history{}
			return
		}
	}
}

// mustReact reports whether an owner without a process has to end its pause: for a
// command or the end of ctx, but not for SetHealth or UpdateSpec.
func (s *Server) mustReact(ctx context.Context) bool {
	return ctx.Err() != nil || s.commands.peek().replace || s.isDrained()
}

// loggableTail returns the last lines of a process as the log may have them.
func (s *Server) loggableTail(exit *Exit) (lines []string) {
	for _, line := range exit.Tail {
		if text, _, ok := s.engine.LogLine(line, exit.Served); ok {
			lines = append(lines, text)
		}
	}
	return lines
}
