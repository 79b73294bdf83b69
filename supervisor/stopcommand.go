package supervisor

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/supervisor/process"
)

const (
	// stopCommandExtra is how much longer than a process's grace its stop command may take:
	// docker stop gives the container ten seconds by default, and then kills it.
	stopCommandExtra = 5 * time.Second
	// forcedStop is how long a stop command may take once llmsup must stop at once.
	forcedStop = 2 * time.Second
	// followsStop is how long a process may take to end by itself after its stop command.
	followsStop = 2 * time.Second
)

// runStopCommand runs the command that ends what the process has started elsewhere, also if
// the process has ended already: a container may be left. It returns false if that may
// still run. What the command prints goes to the server's output.
func (s *Server) runStopCommand(p child, c Command) (gone bool) {
	if len(c.Stop) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.spec.StopGrace+stopCommandExtra)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.forceStop:
			time.AfterFunc(forcedStop, cancel)
		case <-done:
		}
	}()
	out := &output.LineWriter{Emit: func(line string) { s.output.Add(line, true) }}
	exit, err := process.Run(ctx, process.Command{Path: c.Stop[0], Args: c.Stop[1:], Env: c.Env}, out)
	out.Flush()
	switch {
	case err != nil:
		s.log.Error().Err(err).Msg("stop_command can't be run; a container may be left")
		return false
	case ctx.Err() != nil:
		s.log.Warn().Msg("stop_command did not end in time; a container may be left")
		return false
	case exit.Code != 0: // also if there is no container any more
		s.log.Debug().Int("code", exit.Code).Str("signal", exit.Signal).Msg("stop_command has failed; llmsup logs shows what it printed")
		return true
	}
	timer := time.NewTimer(followsStop)
	defer timer.Stop()
	select {
	case <-p.Done():
	case <-s.forceStop:
	case <-timer.C:
	}
	return true
}
