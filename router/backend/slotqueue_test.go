package backend

import (
	"testing"
	"time"
)

// serving is the capacity of a server that takes calls, loading of one that does
// not yet.
func serving(slots int) capacity { return capacity{open: true, slots: slots} }

var loading = capacity{}

// testQueue is a queue whose server offers what a test says.
type testQueue struct {
	*slotQueue
	now capacity
}

func newTestQueue(now capacity) *testQueue {
	q := &testQueue{now: now}
	q.slotQueue = newSlotQueue(func() capacity { return q.now })
	return q
}

// becomes changes the server's state, and notifies the queue.
func (q *testQueue) becomes(now capacity) {
	q.now = now
	q.update()
}

func (q *testQueue) add(t *testing.T, slots int, atOnce bool) *waiter {
	t.Helper()
	w, _, ok := q.enqueue(slots, false, 0)
	if !ok {
		t.Fatal("the queue is full")
	}
	if w.hasSlots() != atOnce {
		t.Fatalf("has slots at once: %t, want %t", w.hasSlots(), atOnce)
	}
	return w
}

func wantLoad(t *testing.T, q *testQueue, taken, waiting int) {
	t.Helper()
	if gotTaken, gotWaiting, _ := q.load(); gotTaken != taken || gotWaiting != waiting {
		t.Errorf("%d slots taken, %d calls wait; want %d, %d", gotTaken, gotWaiting, taken, waiting)
	}
}

// TestSlotQueue: slots first, then a queue in the order of arrival.
func TestSlotQueue(t *testing.T) {
	q := newTestQueue(serving(2))
	q.add(t, 1, true)
	q.add(t, 1, true)
	first, second, third := q.add(t, 1, false), q.add(t, 1, false), q.add(t, 1, false)
	wantLoad(t, q, 2, 3)
	q.cancel(second)
	wantLoad(t, q, 2, 2)
	q.release(1)
	if !first.hasSlots() || third.hasSlots() {
		t.Error("the free slot did not go to the first call in the queue")
	}
	q.cancel(first) // it has its slot already, and gives it to the next
	if !third.hasSlots() {
		t.Error("a slot that was given up stays taken")
	}
	fourth := q.add(t, 1, false)
	q.becomes(serving(3))
	if !fourth.hasSlots() {
		t.Error("a new slot is not used")
	}
	q.release(3)
	wantLoad(t, q, 0, 0)
}

// TestSlotQueueBounds: a call with an alternative does not wait for longer than its
// timeout; the queue has a bound for all calls.
func TestSlotQueueBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		now     capacity
		service time.Duration // mean of the calls so far
		before  int           // calls that came before
		mayMove bool
		timeout time.Duration
		wait    time.Duration
		ok      bool
	}{
		"nothing is known yet":           {serving(2), 0, 2, true, time.Second, 0, true},
		"short calls":                    {serving(2), time.Second, 5, true, time.Minute, 2 * time.Second, true},
		"as long as the timeout":         {serving(2), 30 * time.Second, 5, true, time.Minute, time.Minute, true},
		"longer":                         {serving(2), 31 * time.Second, 5, true, time.Minute, 62 * time.Second, false},
		"longer, without an alternative": {serving(2), 31 * time.Second, 5, false, time.Minute, 62 * time.Second, true},
		"full":                           {serving(2), time.Second, 10, true, time.Minute, 4500 * time.Millisecond, false},
		"full, without an alternative":   {serving(2), time.Second, 10, false, time.Minute, 4500 * time.Millisecond, false},
		"one position left":              {serving(2), time.Second, 9, false, time.Minute, 4 * time.Second, true},
		"loading, one position left":     {loading, time.Second, 19, false, time.Minute, 4 * time.Second, true},
		"loading, full":                  {loading, time.Second, 20, false, time.Minute, 4250 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := newTestQueue(tc.now)
			q.service = tc.service
			for range tc.before {
				if _, _, ok := q.enqueue(1, false, 0); !ok {
					t.Fatal("the queue is full too early")
				}
			}
			if _, wait, ok := q.enqueue(1, tc.mayMove, tc.timeout); ok != tc.ok || wait != tc.wait {
				t.Errorf("waits: %t, for %s; want %t, %s", ok, wait, tc.ok, tc.wait)
			}
		})
	}
}

// TestClosedSlotQueue: a server that loads grants no slot; when it has loaded, the
// calls get theirs in the order of arrival. As many calls find a place as when the
// server takes calls: the bound does not shrink with a restart.
func TestClosedSlotQueue(t *testing.T) {
	q := newTestQueue(loading)
	first, second, third := q.add(t, 1, false), q.add(t, 1, false), q.add(t, 1, false)
	q.release(0)
	wantLoad(t, q, 0, 3)
	q.becomes(serving(2))
	if !first.hasSlots() || !second.hasSlots() || third.hasSlots() {
		t.Error("the loaded server has two slots, for the first two calls")
	}
	for range 2*QueuePerSlot - 1 {
		q.add(t, 1, false)
	}
	q.becomes(loading) // its calls end, and no slot is granted
	q.release(2)
	wantLoad(t, q, 0, 2*QueuePerSlot)
	q.add(t, 1, false)
	q.add(t, 1, false)
	if _, _, ok := q.enqueue(1, false, 0); ok {
		t.Error("the bound is not that of the two slots")
	}
	q.becomes(capacity{open: true}) // a server that does not report its slots takes all calls
	wantLoad(t, q, 2*(1+QueuePerSlot), 0)
}

// TestStaleSlotQueue: a call that comes after a change finds the slots that are free
// by now, whether or not the queue was notified.
func TestStaleSlotQueue(t *testing.T) {
	q := newTestQueue(loading)
	first := q.add(t, 1, false)
	q.now = serving(2)
	q.add(t, 1, true)
	if !first.hasSlots() {
		t.Error("a later call overtook it")
	}
}

// TestSlotlessCalls: a call that needs no slot waits for the server, and for no
// slot.
func TestSlotlessCalls(t *testing.T) {
	q := newTestQueue(loading)
	q.add(t, 1, false)
	q.add(t, 1, false)
	slotless := q.add(t, 0, false)
	q.becomes(serving(1))
	if !slotless.hasSlots() {
		t.Error("it waits for a slot")
	}
	wantLoad(t, q, 1, 1)
}

// TestServiceTime: the mean follows what calls take now.
func TestServiceTime(t *testing.T) {
	q := newTestQueue(serving(1))
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
	q := newTestQueue(serving(3))
	first := q.add(t, 2, true)
	second, third := q.add(t, 2, false), q.add(t, 1, false)
	all, last := q.add(t, 9, false), q.add(t, 1, false)
	other := newTestQueue(serving(3))
	other.taken, other.service = 3, 3*time.Second
	if _, wait, _ := other.enqueue(2, false, 0); wait != 2*time.Second {
		t.Errorf("an estimate of %s", wait)
	}
	q.release(first.slots)
	if !second.hasSlots() || !third.hasSlots() || all.hasSlots() {
		t.Error("there was room for two of them")
	}
	q.release(third.slots)
	if all.hasSlots() || last.hasSlots() {
		t.Error("there is no room for the next one")
	}
	q.release(second.slots)
	if !all.hasSlots() || all.slots != 3 {
		t.Errorf("the call that wants nine slots has %d of three", all.slots)
	}
	wantLoad(t, q, 3, 1)
	wide, narrow := q.add(t, 3, false), q.add(t, 1, false)
	q.release(3)
	if !last.hasSlots() || wide.hasSlots() || narrow.hasSlots() {
		t.Error("one slot is the last one's")
	}
	q.cancel(wide)
	if !narrow.hasSlots() {
		t.Error("a call that fits waits behind one that was cancelled")
	}
}
