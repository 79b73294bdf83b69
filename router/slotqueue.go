package router

import (
	"sync"
	"time"
)

// slotQueue gives the slots of a local server to calls in the order in which the
// calls arrive. llama-server's own queue has no bound, and llama-server does not
// report its length.
//
// While the server takes no calls the queue is closed: calls can wait in it, and
// no slot is granted before the server is back.
type slotQueue struct {
	mu      sync.Mutex
	taken   int       // slots
	waiting []*waiter // in the order of arrival
	service time.Duration
	slots   int // that the server had last; 0 = not known yet
}

// waiter is a call in the queue.
type waiter struct {
	granted chan struct{} // closed when the call has its slots
	slots   int           // that the call takes, all at once
}

// capacity is what a server offers at one moment.
type capacity struct {
	open  bool // it takes calls
	slots int  // calls that it works on at once; 0 = not known, and so no limit
}

const (
	// queuePerSlot bounds the queue.
	queuePerSlot = 4
	// assumedSlots bounds the queue of a server that has not loaded yet:
	// llama-server's own default.
	assumedSlots = 4
	// serviceWeight is how much of the mean service time the last call is, as a
	// share of one over it.
	serviceWeight = 8
)

// enqueue takes slots, or a position in the queue. ok is false if the call is not
// to wait: the queue is full, or mayMove says that the call has another backend
// and the estimated wait is longer than patience. wait is that estimate; it leaves
// out the time until a closed queue opens.
func (q *slotQueue) enqueue(c capacity, slots int, mayMove bool, patience time.Duration) (w *waiter, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w = &waiter{granted: make(chan struct{}), slots: slots}
	q.note(c)
	if len(q.waiting) == 0 && q.fits(c, w) {
		q.give(w)
		return w, 0, true
	}
	ahead := w.slots
	for _, other := range q.waiting {
		ahead += other.slots
	}
	total := q.slots
	if total == 0 {
		total = assumedSlots
	}
	wait = q.service * time.Duration(ahead) / time.Duration(total)
	if len(q.waiting) >= queuePerSlot*total || mayMove && wait > patience {
		return nil, wait, false
	}
	q.waiting = append(q.waiting, w)
	return w, wait, true
}

// cancel gives up whatever a call has: its position in the queue or its slots.
func (q *slotQueue) cancel(c capacity, w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			q.grant(c) // the next call may need fewer slots
			return
		}
	}
	q.taken -= w.slots
	q.grant(c)
}

// release gives slots to the next calls in the queue.
func (q *slotQueue) release(c capacity, slots int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= slots
	q.grant(c)
}

// resize grants slots that a changed capacity makes free.
func (q *slotQueue) resize(c capacity) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grant(c)
}

// served records how long an answered call held its slots, for the estimates.
func (q *slotQueue) served(service time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.service == 0 {
		q.service = service
	}
	q.service += (service - q.service) / serviceWeight
}

// load returns how many slots are taken, and how many calls wait.
func (q *slotQueue) load() (taken, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken, len(q.waiting)
}

func (q *slotQueue) note(c capacity) {
	if c.slots > 0 {
		q.slots = c.slots
	}
}

// grant serves the queue from its front. No call overtakes one that needs more
// slots than are free: that one would wait for ever.
func (q *slotQueue) grant(c capacity) {
	q.note(c)
	for len(q.waiting) > 0 && q.fits(c, q.waiting[0]) {
		q.give(q.waiting[0])
		q.waiting = q.waiting[1:]
	}
}

// fits says whether a call can have its slots now. One that wants more than the
// server has gets all of them.
func (q *slotQueue) fits(c capacity, w *waiter) bool {
	if c.slots > 0 {
		w.slots = min(w.slots, c.slots)
	}
	return c.open && (c.slots == 0 || q.taken+w.slots <= c.slots)
}

func (q *slotQueue) give(w *waiter) {
	q.taken += w.slots
	close(w.granted)
}
