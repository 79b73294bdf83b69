package router

import (
	"sync"
	"time"
)

// gate lets as many calls into a local server as it has slots for. The others
// wait in a queue, first come, first served: llama-server's own has no bound, and
// tells nobody how long it is.
type gate struct {
	mu      sync.Mutex
	running int       // places taken
	queue   []*ticket // in the order of arrival
	service time.Duration
}

// ticket is a call's place in the queue.
type ticket struct {
	granted chan struct{} // closed when it has become as many places as it needs
	places  int           // one for each slot that the call takes
}

const (
	// queuePerSlot bounds the queue.
	queuePerSlot = 4
	// serviceWeight is how much of the mean service time the last call is, as a
	// share of one over it.
	serviceWeight = 8
)

// join takes places, all at once, or a place in the queue. ok is false when the
// queue is not worth it: it is full, or, for a call that may move, the wait would
// be longer than its patience. wait is how long it would be at a guess.
func (g *gate) join(slots, places int, mayMove bool, patience time.Duration) (t *ticket, wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t = &ticket{granted: make(chan struct{}), places: min(places, slots)}
	if len(g.queue) == 0 && g.running+t.places <= slots {
		g.running += t.places
		close(t.granted)
		return t, 0, true
	}
	ahead := t.places
	for _, other := range g.queue {
		ahead += other.places
	}
	wait = g.service * time.Duration(ahead) / time.Duration(slots)
	if len(g.queue) >= queuePerSlot*slots || mayMove && wait > patience {
		return nil, wait, false
	}
	g.queue = append(g.queue, t)
	return t, wait, true
}

// leave gives a ticket up. It returns false when the ticket has become places,
// which are to be given back then.
func (g *gate) leave(t *ticket, slots int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.queue {
		if other == t {
			g.queue = append(g.queue[:i], g.queue[i+1:]...)
			g.grant(slots) // who came next may need fewer places
			return true
		}
	}
	return false
}

// giveBack gives places to the next in the queue.
func (g *gate) giveBack(slots, places int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running -= places
	g.grant(slots)
}

// took tells how long a call took that had its answer, so that waits can be
// guessed. How fast a server refuses says nothing of that.
func (g *gate) took(service time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.service == 0 {
		g.service = service
	}
	g.service += (service - g.service) / serviceWeight
}

// resize lets in whom there is room for, where the server has more slots now.
func (g *gate) resize(slots int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grant(slots)
}

// grant lets the first ones in. Nobody overtakes a call that needs more places
// than there are: it would wait for ever.
func (g *gate) grant(slots int) {
	for len(g.queue) > 0 {
		first := g.queue[0]
		if slots > 0 {
			first.places = min(first.places, slots)
		}
		if slots > 0 && g.running+first.places > slots {
			return
		}
		g.running += first.places
		close(first.granted)
		g.queue = g.queue[1:]
	}
}

// load returns how many places are taken, and how many calls wait for some.
func (g *gate) load() (running, queued int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, len(g.queue)
}
