package supervisor

import (
	"context"
	"time"
)

// Sleeper is a Probe of an engine that can release its VRAM without ending. Both methods wait
// until that is done.
type Sleeper interface {
	Sleep(context.Context) error
	Wake(context.Context) error
}

// wakeRetry is the pause between two test calls of an engine that has been woken.
const wakeRetry = 100 * time.Millisecond

// inTime runs a function for at most some time, and returns a channel that receives its
// error. cancel ends it.
func inTime(ctx context.Context, limit time.Duration, f func(context.Context) error, cancel *context.CancelFunc, run func(func())) <-chan error {
	ctx, stop := context.WithTimeout(ctx, limit) //nolint:gosec // the drain calls it
	*cancel = stop
	result := make(chan error, 1)
	run(func() { result <- f(ctx) })
	return result
}

// bringBack makes a test call to a process that was kept, and wakes it before that if it
// sleeps.
func (s *Server) bringBack(ctx context.Context, probe Probe, cancel *context.CancelFunc, run func(func())) <-chan error {
	sleeper, sleeps := probe.(Sleeper)
	if !sleeps || s.asleep.IsZero() {
		s.transition(Drained, "in use again as soon as it answers a test call", nil)
		return inTime(ctx, s.spec.StallTimeout, probe.TestCall, cancel, run)
	}
	s.asleep = time.Now()
	s.transition(Loading, "it takes its VRAM again", nil)
	return inTime(ctx, s.spec.LoadTimeout, func(ctx context.Context) error {
		err := sleeper.Wake(ctx)
		for err == nil {
			if err = probe.TestCall(ctx); err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(wakeRetry):
				err = nil
			}
		}
		return err
	}, cancel, run)
}

// backInUse takes a process into use that was out of use. To wake it was to load it.
func (s *Server) backInUse() {
	s.setReadyOrDegraded(func(n *Snapshot) {
		if !s.asleep.IsZero() {
			n.LoadDuration = time.Since(s.asleep)
		}
	})
	s.asleep = time.Time{}
}
