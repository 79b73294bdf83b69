package router

import (
	"testing"
	"time"
)

func hasSlots(w *waiter) bool {
	select {
	case <-w.granted:
		return true
	default:
		return false
	}
}

// serving is the capacity of a server that takes calls, loading of one that does
// not yet.
func serving(slots int) capacity { return capacity{open: true, slots: slots} }

var loading = capacity{}

func enqueue(t *testing.T, q *slotQueue, c capacity, slots int, atOnce bool) *waiter {
	t.Helper()
	w, _, ok := q.enqueue(c, slots, false, 0)
	if !ok {
		t.Fatal("the queue is full")
	}
	if hasSlots(w) != atOnce {
		t.Fatalf("has slots at once: %t, want %t", hasSlots(w), atOnce)
	}
	return w
}

func wantLoad(t *testing.T, q *slotQueue, taken, waiting int) {
	t.Helper()
	if gotTaken, gotWaiting := q.load(); gotTaken != taken || gotWaiting != waiting {
		t.Errorf("%d slots taken, %d calls wait; want %d, %d", gotTaken, gotWaiting, taken, waiting)
	}
}

// TestSlotQueue: slots first, then a queue in the order of arrival.
func TestSlotQueue(t *testing.T) {
	var q slotQueue
	enqueue(t, &q, serving(2), 1, true)
	enqueue(t, &q, serving(2), 1, true)
	first, second, third := enqueue(t, &q, serving(2), 1, false), enqueue(t, &q, serving(2), 1, false), enqueue(t, &q, serving(2), 1, false)
	wantLoad(t, &q, 2, 3)
	q.cancel(serving(2), second)
	wantLoad(t, &q, 2, 2)
	q.release(serving(2), 1)
	if !hasSlots(first) || hasSlots(third) {
		t.Error("the free slot did not go to the first call in the queue")
	}
	q.cancel(serving(2), first) // it has its slot already, and gives it to the next
	if !hasSlots(third) {
		t.Error("a slot that was given up stays taken")
	}
	fourth := enqueue(t, &q, serving(2), 1, false)
	q.resize(serving(3))
	if !hasSlots(fourth) {
		t.Error("a new slot is not used")
	}
	q.release(serving(3), 3)
	wantLoad(t, &q, 0, 0)
}

// TestSlotQueueBounds: a call with an alternative does not wait for longer than its
// patience; the queue has a bound for all calls.
func TestSlotQueueBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		c        capacity
		service  time.Duration // mean of the calls so far
		before   int           // calls that came before
		mayMove  bool
		patience time.Duration
		wait     time.Duration
		ok       bool
	}{
		"nothing is known yet":           {serving(2), 0, 2, true, time.Second, 0, true},
		"short calls":                    {serving(2), time.Second, 5, true, time.Minute, 2 * time.Second, true},
		"as long as the patience":        {serving(2), 30 * time.Second, 5, true, time.Minute, time.Minute, true},
		"longer":                         {serving(2), 31 * time.Second, 5, true, time.Minute, 62 * time.Second, false},
		"longer, without an alternative": {serving(2), 31 * time.Second, 5, false, time.Minute, 62 * time.Second, true},
		"full":                           {serving(2), time.Second, 10, true, time.Minute, 4500 * time.Millisecond, false},
		"full, without an alternative":   {serving(2), time.Second, 10, false, time.Minute, 4500 * time.Millisecond, false},
		"one position left":              {serving(2), time.Second, 9, false, time.Minute, 4 * time.Second, true},
		"loading, one position left":     {loading, time.Second, 15, false, time.Minute, 4 * time.Second, true},
		"loading, full":                  {loading, time.Second, 16, false, time.Minute, 4250 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := slotQueue{service: tc.service}
			for range tc.before {
				if _, _, ok := q.enqueue(tc.c, 1, false, 0); !ok {
					t.Fatal("the queue is full too early")
				}
			}
			if _, wait, ok := q.enqueue(tc.c, 1, tc.mayMove, tc.patience); ok != tc.ok || wait != tc.wait {
				t.Errorf("waits: %t, for %s; want %t, %s", ok, wait, tc.ok, tc.wait)
			}
		})
	}
}

// TestClosedSlotQueue: a server that loads grants no slot; when it has loaded, the
// calls get theirs in the order of arrival. The bound is of the slots it had.
func TestClosedSlotQueue(t *testing.T) {
	var q slotQueue
	first, second, third := enqueue(t, &q, loading, 1, false), enqueue(t, &q, loading, 1, false), enqueue(t, &q, loading, 1, false)
	q.resize(loading)
	q.release(loading, 0)
	wantLoad(t, &q, 0, 3)
	q.resize(serving(2))
	if !hasSlots(first) || !hasSlots(second) || hasSlots(third) {
		t.Error("the loaded server has two slots, for the first two calls")
	}
	// The server ends: its calls release their slots, and none is granted.
	q.release(loading, 2)
	wantLoad(t, &q, 0, 1)
	for range queuePerSlot*2 - 1 {
		enqueue(t, &q, loading, 1, false)
	}
	if _, _, ok := q.enqueue(loading, 1, false, 0); ok {
		t.Error("the bound is not that of the two slots")
	}
	q.resize(capacity{open: true}) // a server that does not report its slots takes all calls
	wantLoad(t, &q, queuePerSlot*2, 0)
}

// TestServiceTime: the mean follows what calls take now.
func TestServiceTime(t *testing.T) {
	var q slotQueue
	q.served(8 * time.Second)
	q.served(8 * time.Second)
	if q.service != 8*time.Second {
		t.Errorf("mean %s", q.service)
	}
	if q.served(0); q.service != 7*time.Second {
		t.Errorf("mean %s, want 7s", q.service)
	}
}

// TestSlotQueueOfSeveral: a call that takes several slots waits for all of them, and
// no call overtakes it; one that wants more than there are gets them all.
func TestSlotQueueOfSeveral(t *testing.T) {
	var q slotQueue
	first := enqueue(t, &q, serving(3), 2, true)
	second := enqueue(t, &q, serving(3), 2, false)
	third := enqueue(t, &q, serving(3), 1, false)
	all, last := enqueue(t, &q, serving(3), 9, false), enqueue(t, &q, serving(3), 1, false)
	if _, wait, _ := (&slotQueue{taken: 3, service: 3 * time.Second}).enqueue(serving(3), 2, false, 0); wait != 2*time.Second {
		t.Errorf("an estimate of %s", wait)
	}
	q.release(serving(3), first.slots)
	if !hasSlots(second) || !hasSlots(third) || hasSlots(all) {
		t.Error("there was room for two of them")
	}
	q.release(serving(3), third.slots)
	if hasSlots(all) || hasSlots(last) {
		t.Error("there is no room for the next one")
	}
	q.release(serving(3), second.slots)
	if !hasSlots(all) || all.slots != 3 {
		t.Errorf("the call that wants nine slots has %d of three", all.slots)
	}
	wantLoad(t, &q, 3, 1)
	wide, narrow := enqueue(t, &q, serving(3), 3, false), enqueue(t, &q, serving(3), 1, false)
	q.release(serving(3), 3)
	if !hasSlots(last) || hasSlots(wide) || hasSlots(narrow) {
		t.Error("one slot is the last one's")
	}
	q.cancel(serving(3), wide)
	if !hasSlots(narrow) {
		t.Error("a call that fits waits behind one that has left")
	}
}
