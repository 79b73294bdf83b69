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
		ticket, _, ok := g.join(2, 1, true, time.Minute)
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
	if !g.leave(second, 2) {
		t.Error("who waits can leave")
	}
	g.giveBack(2, 1)
	if !isOpen(first) || isOpen(third) {
		t.Error("the place is not the first one's")
	}
	if g.leave(first, 2) {
		t.Error("who has a place has to give it back")
	}
	g.resize(3)
	if !isOpen(third) {
		t.Error("a new slot is not used")
	}
	g.giveBack(3, 1)
	g.giveBack(3, 1)
	g.giveBack(3, 1)
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
				if _, _, ok := g.join(2, 1, false, 0); !ok {
					t.Fatal("the queue is full too early")
				}
			}
			if _, wait, ok := g.join(2, 1, tc.mayMove, tc.patience); ok != tc.ok || wait != tc.wait {
				t.Errorf("joined: %t, to wait for %s; want %t, %s", ok, wait, tc.ok, tc.wait)
			}
		})
	}
}

// TestServiceTime: the mean follows what calls take now.
func TestServiceTime(t *testing.T) {
	var g gate
	g.took(8 * time.Second)
	g.took(8 * time.Second)
	if g.service != 8*time.Second {
		t.Errorf("mean %s", g.service)
	}
	if g.took(0); g.service != 7*time.Second {
		t.Errorf("mean %s, want 7s", g.service)
	}
}

// TestGateOfSeveral: a call that takes several slots waits for all of them, and
// nobody overtakes it; one that wants more than there are gets them all.
func TestGateOfSeveral(t *testing.T) {
	var g gate
	join := func(places int) *ticket {
		t.Helper()
		ticket, _, ok := g.join(3, places, false, 0)
		if !ok {
			t.Fatal("the queue is full")
		}
		return ticket
	}
	first := join(2)
	second, third, all, last := join(2), join(1), join(9), join(1)
	if !isOpen(first) || isOpen(second) || isOpen(third) {
		t.Fatal("who came later has overtaken the one who needs two places")
	}
	if _, wait, _ := (&gate{running: 3, service: 3 * time.Second}).join(3, 2, false, 0); wait != 2*time.Second {
		t.Errorf("a guess of %s", wait)
	}
	g.giveBack(3, first.places)
	if !isOpen(second) || !isOpen(third) || isOpen(all) {
		t.Error("there was room for two of them")
	}
	g.giveBack(3, third.places)
	if isOpen(all) || isOpen(last) {
		t.Error("there is not room for the one who is next")
	}
	g.giveBack(3, second.places)
	if running, queued := g.load(); !isOpen(all) || all.places != 3 || running != 3 || queued != 1 {
		t.Errorf("%d places, %d taken, %d wait", all.places, running, queued)
	}
	wide, narrow := join(3), join(1)
	g.giveBack(3, 3)
	if !isOpen(last) || isOpen(wide) || isOpen(narrow) {
		t.Error("one place is the last one's")
	}
	if !g.leave(wide, 3) || !isOpen(narrow) {
		t.Error("who needed less than the one that left still waits")
	}
}
