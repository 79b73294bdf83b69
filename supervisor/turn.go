package supervisor

import (
	"context"
	"sync/atomic"
	"time"
)

// turnEvery is the pace at which an owner that waits for something shows that it
// would hear of it.
const turnEvery = 2 * time.Second

// turns tells whether the loop of a server's owner turns. The owner writes;
// whoever feeds a watchdog reads.
type turns struct {
	last    atomic.Pointer[time.Time]
	excused atomic.Bool
}

// turn is called by the owner in each round of each of its waits.
func (t *turns) turn() {
	now := time.Now()
	t.last.Store(&now)
}

// excuse has the owner count as turning until the function that it returns is
// called: while it waits for the kernel to end a process, which takes what it
// takes, and which another llmsup could not hasten.
func (t *turns) excuse() (back func()) {
	t.excused.Store(true)
	return func() {
		t.turn()
		t.excused.Store(false)
	}
}

// end says that there is no owner any more, and so none that could be stuck.
func (t *turns) end() { t.excused.Store(true) }

// LastHeartbeat returns when the server's owner last showed that it is not stuck. Up to
// some ten seconds ago are nothing unusual: it may be asking a llama-server on a
// cold disk for its flags.
func (s *Server) LastHeartbeat() time.Time {
	if last := s.turns.last.Load(); last != nil && !s.turns.excused.Load() {
		return *last
	}
	return time.Now()
}

// awaitOrder waits for something new to be wanted, and returns false when ctx
// has ended.
func (s *Server) awaitOrder(ctx context.Context) bool {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for {
		s.turns.turn()
		select {
		case <-ctx.Done():
			return false
		case <-s.orders.came:
			return true
		case <-tick.C:
		}
	}
}
