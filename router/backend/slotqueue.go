package backend

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/pick"
)

// slotQueue grants the slots of a local server to calls in the order of their arrival.
// llama-server's own queue has no bound, and llama-server does not report its length.
//
// While the server accepts no calls the queue is closed: calls can wait in it, and no
// slot is granted until the server accepts calls again.
type slotQueue struct {
	offers  func() capacity // the server's capacity now; must not block
	mu      sync.Mutex
	taken   int       // slots
	waiting []*waiter // in the order of arrival
	service time.Duration
	slots   int // last known number of the server's slots; AssumedSlots at first
}

// waiter is a call in the queue.
type waiter struct {
	granted chan struct{} // closed when the call has its slots
	since   time.Time     // when it began to wait
	place   int           // in the queue at that time, 1 = next
	slots   int           // that the call needs, all at once
	full    bool          // the queue had no room for it
}

// capacity is a server's capacity at one moment.
type capacity struct {
	open  bool // it accepts calls
	slots int  // how many calls it works on at once; 0 = unknown, and so no limit
}

const (
	// QueuePerSlot is how many calls may wait for each slot, in addition to the
	// running one.
	QueuePerSlot = 4
	// AssumedSlots bounds the queue of a server that has not loaded yet:
	// llama-server's own default.
	AssumedSlots = 4
	// The weight of the last call in the moving average of the service time is
	// 1/serviceWeight.
	serviceWeight = 8
)

func newSlotQueue(offers func() capacity) *slotQueue {
	return &slotQueue{offers: offers, slots: AssumedSlots}
}

// enqueue takes slots, or a position in the queue. w.place is that position, also of a call
// that does not get it; 0 = the call has its slots. ok is false if the call should not
// wait: the queue is full, or the call has another backend (mayMove) and the estimated
// wait is longer than maxWait; with 0, a call that may move does not wait at all. wait is that
// estimate, 0 if it is unknown; it does not include the time until a closed queue opens.
func (q *slotQueue) enqueue(slots int, mayMove bool, maxWait time.Duration) (w *waiter, wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w = &waiter{granted: make(chan struct{}), slots: slots}
	q.waiting = append(q.waiting, w)
	q.grant()
	if w.hasSlots() {
		return w, 0, true
	}
	needed := q.taken - q.slots // below 0: a closed queue has free slots
	for _, other := range q.waiting {
		needed += other.slots
	}
	wait = q.service * time.Duration(max(needed, 0)) / time.Duration(q.slots)
	w.full = q.taken+len(q.waiting) > q.slots*(1+QueuePerSlot)
	if w.full || mayMove && (wait > maxWait || maxWait == 0) {
		w.place = len(q.waiting)
		q.waiting = q.waiting[:len(q.waiting)-1]
		return w, wait, false
	}
	w.place = len(q.waiting)
	w.since = time.Now()
	return w, wait, true
}

// expectedWait returns for how long a call that needs one slot would wait; 0 = it would not, or the
// queue is closed.
func (q *slotQueue) expectedWait() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	needed := q.taken + 1
	for _, w := range q.waiting {
		needed += w.slots
	}
	if now := q.offers(); !now.open || now.slots == 0 || needed <= now.slots {
		return 0
	}
	return cmp.Or(q.service, pick.AssumedService) * time.Duration(needed-q.slots) / time.Duration(q.slots)
}

// cancel releases what a call has: its position in the queue or its slots.
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

// release returns slots, and grants them to the next calls in the queue.
func (q *slotQueue) release(slots int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken -= slots
	q.grant()
}

// update grants the slots that a change of the server's state makes available.
func (q *slotQueue) update() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grant()
}

// placeOf returns the place of a call in the queue, 1 = next; 0 = it is not in the queue.
func (q *slotQueue) placeOf(w *waiter) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Index(q.waiting, w) + 1
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

// forModel returns how many calls wait for the server to accept calls, and since when the
// first of them waits.
func (q *slotQueue) forModel() (waiting int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 || q.offers().open {
		return 0, time.Time{}
	}
	return len(q.waiting), q.waiting[0].since
}

// grant grants slots from the front of the queue. No call overtakes one that needs more
// slots than are free: that call would wait forever. Calls that need no slot wait only
// for the server.
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
		if now.slots > 0 { // a call that needs more slots than the server has gets all of them
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

// hasSlots reports whether the call may begin.
func (w *waiter) hasSlots() bool {
	select {
	case <-w.granted:
		return true
	default:
		return false
	}
}
