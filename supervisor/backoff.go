package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

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
