package supervisor

import (
	"errors"
	"time"

	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/supervisor/process"
)

const (
	// stopCommandExtra is how much longer than a process's grace its stop command may take:
	// docker stop gives the container ten seconds by default, and then kills it.
	stopCommandExtra = 5 * time.Second
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
	out := &output.LineWriter{Emit: func(line string) { s.output.Add(line, true) }}
	err := process.RunStop(process.Command{Path: c.Stop[0], Args: c.Stop[1:], Env: c.Env}, s.spec.StopGrace+stopCommandExtra, s.forceStop, out)
	out.Flush()
	if err != nil {
		gone = !errors.Is(err, process.ErrNotStopped)
		s.log.Warn().Msg(err.Error())
		return gone
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
