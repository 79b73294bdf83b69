package supervisor

import (
	"context"
	"sync/atomic"
	"time"
)

// heartbeatInterval is how often an owner goroutine that waits for something shows
// that it still reacts.
const heartbeatInterval = 2 * time.Second

// heartbeat shows whether a server's owner goroutine is stuck. The owner writes it;
// the daemon, which feeds systemd's watchdog, reads it.
type heartbeat struct {
	last      atomic.Pointer[time.Time]
	suspended atomic.Bool
}

// beat is called by the owner in each round of each of its waits.
func (h *heartbeat) beat() {
	now := time.Now()
	h.last.Store(&now)
}

// suspend pauses the heartbeat check until the returned function is called. The
// owner calls it while it waits for the kernel to end a process: that may take
// long, and another llmsup could not make it shorter.
func (h *heartbeat) suspend() (resume func()) {
	h.suspended.Store(true)
	return func() {
		h.beat()
		h.suspended.Store(false)
	}
}

// stop ends the heartbeat check: there is no owner any more.
func (h *heartbeat) stop() { h.suspended.Store(true) }

// LastHeartbeat returns when the server's owner goroutine last showed that it is not
// stuck. Some ten seconds ago is normal: the owner may be running an engine's
// program from a cold disk for its --help.
func (s *Server) LastHeartbeat() time.Time {
	if last := s.heartbeat.last.Load(); last != nil && !s.heartbeat.suspended.Load() {
		return *last
	}
	return time.Now()
}

// pause waits for at most heartbeatInterval. It returns false, and early, if ctx
// has ended or there is a new command.
func (s *Server) pause(ctx context.Context, d time.Duration) (elapsed bool) {
	s.heartbeat.beat()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.commands.pending:
		return false
	case <-timer.C:
		return true
	}
}

// awaitCommand waits for a new command, and returns false if ctx has ended.
func (s *Server) awaitCommand(ctx context.Context) bool {
	for s.pause(ctx, heartbeatInterval) {
	}
	return ctx.Err() == nil
}
