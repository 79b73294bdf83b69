package supervisor

import (
	"slices"
	"strings"
	"testing"
)

// TestEveryPairOfStates checks the diagram on State: for each state, exactly these
// may follow.
func TestEveryPairOfStates(t *testing.T) {
	follows := map[State]string{
		Stopped:    "stopped starting drained unloaded",
		Starting:   "stopped starting loading draining restarting failed unloading",
		Loading:    "stopped loading ready degraded draining restarting failed unloading",
		Ready:      "stopped ready degraded draining restarting failed unloading",
		Degraded:   "stopped ready degraded draining restarting failed unloading",
		Draining:   "stopped starting ready degraded draining drained restarting unloading unloaded",
		Drained:    "stopped starting ready degraded draining drained restarting unloaded",
		Restarting: "stopped starting draining restarting failed unloading",
		Failed:     "stopped starting draining failed unloading",
		Unloading:  "stopped starting ready degraded draining drained restarting unloading unloaded",
		Unloaded:   "stopped starting loading draining drained unloading unloaded",
	}
	if len(follows) != len(stateNames) {
		t.Fatalf("the table has %d states, the code %d", len(follows), len(stateNames))
	}
	for from, want := range follows {
		for to := range State(len(stateNames)) {
			allowed := slices.Contains(strings.Fields(want), to.String())
			if got := mayFollow(from, to); got != allowed {
				t.Errorf("mayFollow(%s, %s) = %t, want %t", from, to, got, allowed)
			}
		}
	}
}

func TestIllegalTransitionPanics(t *testing.T) {
	s := newServer(t, Spec{})
	defer func() {
		if recover() == nil {
			t.Fatal("from stopped straight to ready: no panic")
		}
		if got := s.Snapshot().State; got != Stopped {
			t.Fatalf("state is %s after a rejected transition, want stopped", got)
		}
	}()
	s.transition(Ready, "", nil)
}

func TestStateNames(t *testing.T) {
	want := []string{"stopped", "starting", "loading", "ready", "degraded", "draining", "drained", "restarting", "failed", "unloading", "unloaded"}
	for i, name := range want {
		if got := State(i).String(); got != name {
			t.Errorf("State(%d) is called %q, want %q", i, got, name)
		}
	}
	if got := State(99).String(); got != "State(99)" {
		t.Errorf("State(99) is called %q", got)
	}
}
