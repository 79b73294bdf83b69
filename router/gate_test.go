package router

import (
	"testing"
	"time"
)

func isOpen(t *ticket) bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

// TestGate: places up to the slots, then a queue in the order of arrival.
func TestGate(t *testing.T) {
	var g gate
	join := func(want bool) *ticket {
		t.Helper()
		ticket, _, ok := g.join(2, true, time.Minute)
		if !ok || isOpen(ticket) != want {
			t.Fatalf("joined: %t, at once: %t; want %t", ok, ok && isOpen(ticket), want)
		}
		return ticket
	}
	join(true)
	join(true)
	first, second, third := join(false), join(false), join(false)
	if running, queued := g.load(); running != 2 || queued != 3 {
		t.Errorf("%d run, %d wait", running, queued)
	}
	if !g.leave(second) {
		t.Error("who waits can leave")
	}
	g.giveBack(2, time.Second, true)
	if !isOpen(first) || isOpen(third) {
		t.Error("the place is not the first one's")
	}
	if g.leave(first) {
		t.Error("who has a place has to give it back")
	}
	g.resize(3)
	if !isOpen(third) {
		t.Error("a new slot is not used")
	}
	g.giveBack(3, 0, false)
	g.giveBack(3, 0, false)
	g.giveBack(3, 0, false)
	if running, queued := g.load(); running != 0 || queued != 0 {
		t.Errorf("at the end %d run, %d wait", running, queued)
	}
}

// TestGateIsWorthIt: nobody who can move waits for longer than he has patience;
// the queue has a bound for the others, too.
func TestGateIsWorthIt(t *testing.T) {
	for name, tc := range map[string]struct {
		service  time.Duration // mean of the calls so far
		ahead    int           // in the queue
		mayMove  bool
		patience time.Duration
		wait     time.Duration
		ok       bool
	}{
		"nothing is known yet":         {0, 0, true, time.Second, 0, true},
		"short calls":                  {time.Second, 3, true, time.Minute, 2 * time.Second, true},
		"as long as there is patience": {30 * time.Second, 3, true, time.Minute, time.Minute, true},
		"longer":                       {31 * time.Second, 3, true, time.Minute, 62 * time.Second, false},
		"longer, and nowhere to go":    {31 * time.Second, 3, false, time.Minute, 62 * time.Second, true},
		"a full queue":                 {time.Second, 8, true, time.Minute, 4500 * time.Millisecond, false},
		"a full queue, nowhere to go":  {time.Second, 8, false, time.Minute, 4500 * time.Millisecond, false},
		"one place left in the queue":  {time.Second, 7, false, time.Minute, 4 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate{service: tc.service}
			for range 2 + tc.ahead {
				if _, _, ok := g.join(2, false, 0); !ok {
					t.Fatal("the queue is full too early")
				}
			}
			if _, wait, ok := g.join(2, tc.mayMove, tc.patience); ok != tc.ok || wait != tc.wait {
				t.Errorf("joined: %t, to wait for %s; want %t, %s", ok, wait, tc.ok, tc.wait)
			}
		})
	}
}

// TestServiceTime: the mean follows what calls take now; a call that was broken
// off says nothing.
func TestServiceTime(t *testing.T) {
	var g gate
	for _, took := range []time.Duration{8 * time.Second, 8 * time.Second} {
		g.join(1, false, 0)
		g.giveBack(1, took, true)
	}
	if g.service != 8*time.Second {
		t.Errorf("mean %s", g.service)
	}
	g.join(1, false, 0)
	g.giveBack(1, time.Hour, false)
	g.join(1, false, 0)
	g.giveBack(1, 0, true)
	if g.service != 7*time.Second {
		t.Errorf("mean %s, want 7s", g.service)
	}
}
