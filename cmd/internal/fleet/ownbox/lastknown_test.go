package ownbox

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// TestLastKnown: the router keeps the boxes that it knew while this box is alone, and until they
// have had the time to join again, too.
func TestLastKnown(t *testing.T) {
	began := time.Now()
	peer := func(name string, seen time.Duration) fleet.Peer {
		return fleet.Peer{Box: fleet.Box{Name: name}, Seen: began.Add(seen)}
	}
	left := func(name string, seen time.Duration) fleet.Peer {
		p := peer(name, seen)
		p.Leaving = true
		return p
	}
	type step struct {
		at   time.Duration
		view fleet.View
		want string // the names of the other boxes
	}
	type peers = []fleet.Peer
	second := time.Second
	known := step{0, fleet.View{Joined: true, Boxes: peers{peer("b", 0), peer("c", 0)}}, "b c"}
	lost := step{4 * second, fleet.View{Absent: peers{peer("b", 0), peer("c", 0)}}, "b c"}
	for name, steps := range map[string][]step{
		"joins for the first time": {{0, fleet.View{}, ""}, {second, fleet.View{Joined: true}, ""}, {2 * second, fleet.View{Joined: true, Boxes: peers{peer("b", second)}}, "b"}},
		"hears of others before it joins": { // it waits for its name, which its killed process had
			{0, fleet.View{}, ""},
			{second, fleet.View{Boxes: peers{peer("b", second), peer("c", second)}}, "b c"},
			{2 * second, fleet.View{Boxes: peers{peer("c", 2*second)}, Absent: peers{left("b", 2*second)}}, "c"},
			{4 * second, fleet.View{Joined: true, Boxes: peers{peer("c", 4*second)}, Absent: peers{left("b", 2*second)}}, "c"},
		},
		"loses NATS before it joins": {
			{0, fleet.View{}, ""},
			{second, fleet.View{Boxes: peers{peer("b", second)}}, "b"},
			{9 * second, fleet.View{Absent: peers{peer("b", second)}}, "b"},
			{20 * second, fleet.View{Joined: true, Absent: peers{peer("b", second)}}, "b"},
			{31 * second, fleet.View{Joined: true, Absent: peers{peer("b", second)}}, ""},
		},
		"one leaves":    {known, {second, fleet.View{Joined: true, Boxes: peers{peer("b", 0)}, Absent: peers{left("c", second)}}, "b"}},
		"one is silent": {known, {3 * second, fleet.View{Joined: true, Boxes: peers{peer("b", 0)}, Absent: peers{peer("c", 0)}}, "b"}},
		"all are silent before the loss is noticed": {
			known, {3 * second, fleet.View{Joined: true, Absent: peers{peer("b", 0), peer("c", 0)}}, ""}, lost,
		},
		"the others join later": {
			known, lost,
			{20 * second, fleet.View{Joined: true, Absent: peers{peer("b", 0), peer("c", 0)}}, "b c"},
			{22 * second, fleet.View{Joined: true, Boxes: peers{peer("c", 22*second)}, Absent: peers{peer("b", 0)}}, "b c"},
			{25 * second, fleet.View{Joined: true, Boxes: peers{peer("b", 25*second), peer("c", 25*second)}}, "b c"},
			{29 * second, fleet.View{Joined: true, Boxes: peers{peer("b", 29*second)}, Absent: peers{peer("c", 25*second)}}, "b"}, // killed
		},
		"one does not come back": {
			known, lost,
			{20 * second, fleet.View{Joined: true, Absent: peers{peer("b", 0), peer("c", 0)}}, "b c"},
			{31 * second, fleet.View{Joined: true, Boxes: peers{peer("c", 31*second)}, Absent: peers{peer("b", 0)}}, "c"},
		},
		"one has left meanwhile": {
			known, lost,
			{20 * second, fleet.View{Joined: true, Absent: peers{left("b", 21*second), peer("c", 0)}}, "c"},
		},
		"alone again": {
			known, lost,
			{20 * second, fleet.View{Joined: true, Boxes: peers{peer("b", 20*second)}, Absent: peers{peer("c", 0)}}, "b c"},
			{25 * second, fleet.View{Absent: peers{peer("b", 20*second), peer("c", 0)}}, "b c"},
			{50 * second, fleet.View{Absent: peers{peer("b", 20*second), peer("c", 0)}}, "b c"},
			{51 * second, fleet.View{Joined: true, Absent: peers{peer("b", 20*second), peer("c", 0)}}, "b c"},
			{62 * second, fleet.View{Joined: true, Absent: peers{peer("b", 20*second), peer("c", 0)}}, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var l lastKnown
			for _, s := range steps {
				var got []string
				for _, p := range l.of(&s.view, began.Add(s.at)) {
					got = append(got, p.Name)
				}
				if !slices.Equal(got, strings.Fields(s.want)) {
					t.Errorf("after %s: %q, want %q", s.at, got, s.want)
				}
			}
		})
	}
}
