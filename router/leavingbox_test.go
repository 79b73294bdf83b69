package router

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
)

// TestBoxLeavesWhileItAnswers: a call at a box that leaves the fleet, or has lost NATS, moves to
// another backend if there is one. Else it gets the answer of that box.
func TestBoxLeavesWhileItAnswers(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{"local/qwen": "openrouter", "local/alone": "box2/qwen"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			f := newFleet(t, answers, hangs, after(gate))
			f.state.edit(drained)
			f.others[0].state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
			f.set(2, boxes.PeerState{Status: "ready", Slots: 4, Free: 4, Aggregation: true})
			answered := make(chan reply, 1)
			go func() { answered <- f.chat(model, false) }()
			eventually(t, "box2 has the call", func() bool { return len(f.others[0].local.requests()) == 1 })
			f.boxes.Set(boxes.Fleet{Name: "box1"})
			if want == "box2/qwen" {
				outlast(100 * time.Millisecond)
				close(gate)
			}
			if r := <-answered; r.status != 200 || r.backend() != want {
				t.Errorf("%d from %q, want %q: %s", r.status, r.backend(), want, r.body)
			}
			if want == "openrouter" {
				close(gate)
			}
		})
	}
}
