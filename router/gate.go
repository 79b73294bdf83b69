package router

import (
	"sync"
	"time"
)

// gate lets as many calls into a local server as it has slots. The others wait
// in a queue, first come, first served: llama-server's own has no bound, and
// tells nobody how long it is.
type gate struct {
	mu      sync.Mutex
	running int       // places taken
	queue   []*ticket // in the order of arrival
	service time.Duration
}

// ticket is a place in the queue.
type ticket struct {
	granted chan struct{} // closed when it has become a place
}

const (
	// queuePerSlot bounds the queue.
	queuePerSlot = 4
	// serviceWeight is how much of the mean service time the last call is, as a
	// share of one over it.
	serviceWeight = 8
)

// join takes a place, or one in the queue. ok is false when the queue is not
// worth it: it is full, or, for a call that may move, the wait would be longer
// than its patience. wait is how long it would be at a guess.
func (g *gate) join(slots int, mayMove bool, patience time.Duration) (t *ticket, wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t = &ticket{granted: make(chan struct{})}
	if g.running < slots && len(g.queue) == 0 {
		g.running++
		close(t.granted)
		return t, 0, true
	}
	wait = g.service * time.Duration(len(g.queue)+1) / time.Duration(slots)
	if len(g.queue) >= queuePerSlot*slots || mayMove && wait > patience {
		return nil, wait, false
	}
	g.queue = append(g.queue, t)
	return t, wait, true
}

// leave gives a ticket up. It returns false when the ticket has become a place,
// which is to be given back then.
func (g *gate) leave(t *ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.queue {
		if other == t {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			return true
		}
	}
	return false
}

// giveBack gives a place to the next in the queue. A call that had its answer
// tells how long it took, so that waits can be guessed.
func (g *gate) giveBack(slots int, took time.Duration, whole bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if whole {
		if g.service == 0 {
			g.service = took
		}
		g.service += (took - g.service) / serviceWeight
	}
	g.grant(slots)
}

// resize lets in whom there is room for, where the server has more slots now.
func (g *gate) resize(slots int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grant(slots)
}

func (g *gate) grant(slots int) {
	for len(g.queue) > 0 && (g.running < slots || slots == 0) {
		g.running++
		close(g.queue[0].granted)
		g.queue = g.queue[1:]
	}
}

// load returns how many places are taken, and how many calls wait for one.
func (g *gate) load() (running, queued int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, len(g.queue)
}
