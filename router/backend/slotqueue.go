package backend

import (
	"slices"
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
	offers  func() capacity // what the server offers now; must not wait
	mu      sync.Mutex
	taken   int       // slots
	waiting []*waiter // in the order of arrival
	service time.Duration
	slots   int // that the server had last; AssumedSlots until they are known
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
	// QueuePerSlot is how many calls may wait for each slot, beside the one that
	// has it.
	QueuePerSlot = 4
	// AssumedSlots bounds the queue of a server that has not loaded yet:
	// llama-server's own default.
	AssumedSlots = 4
	// serviceWeight is how much of the mean service time the last call is, as a
	// share of one over it.
	serviceWeight = 8
)

func newSlotQueue(offers func() capacity) *slotQueue {
	return &slotQueue{offers: offers, slots: AssumedSlots}
}

// enqueue takes slots, or a position in the queue. ok is false if the call is not
// to wait: the queue is full, or mayMove says that the call has another backend
// and the estimated wait is longer than patience. wait is that estimate; it leaves
// out the time until a closed queue opens.
func (q *slotQueue) enqueue(slots int, mayMove bool, patience time.Duration) (w *waiter, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w = &waiter{granted: make(chan struct{}), slots: slots}
	q.waiting = append(q.waiting, w)
	q.grant()
	if w.hasSlots() {
		return w, 0, true
	}
	asked := 0
	for _, other := range q.waiting {
		asked += other.slots
	}
	wait = q.service * time.Duration(asked) / time.Duration(q.slots)
	if q.taken+len(q.waiting) > q.slots*(1+QueuePerSlot) || mayMove && wait > patience {
		q.waiting = q.waiting[:len(q.waiting)-1]
		return nil, wait, false
	}
	return w, wait, true
}

// cancel gives up whatever a call has: its position in the queue or its slots.
func (q *slotQueue) cancel(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	} else {
		q.taken -= w.slots
	}
	q.grant() // the next call may need fewer slots
}

// release gives slots to the next calls in the queue.
func (q *slotQueue) release(slots int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= slots
	q.grant()
}

// update grants the slots that a change of the server's state makes free.
func (q *slotQueue) update() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grant()
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

// load returns how many slots are taken, how many calls wait, and how long a call holds
// its slots on average.
func (q *slotQueue) load() (taken, waiting int, service time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken, len(q.waiting), q.service
}

// grant serves the queue from its front. No call overtakes one that needs more
// slots than are free: that one would wait for ever. Calls that need no slot only
// wait for the server.
func (q *slotQueue) grant() {
	now := q.offers()
	if now.slots > 0 {
		q.slots = now.slots
	}
	if !now.open {
		return
	}
	full := false
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waiter) bool {
		if now.slots > 0 { // a call that wants more than the server has gets all of them
			w.slots = min(w.slots, now.slots)
		}
		if w.slots > 0 && now.slots > 0 {
			full = full || q.taken+w.slots > now.slots
			if full {
				return false
			}
		}
		q.taken += w.slots
		close(w.granted)
		return true
	})
}

// hasSlots says whether the call may begin.
func (w *waiter) hasSlots() bool {
	select {
	case <-w.granted:
		return true
	default:
		return false
	}
}
