package router

import (
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
)

// after answers calls once the gate is closed.
func after(gate <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
			answers(w, r)
		case <-r.Context().Done():
		}
	}
}

// TestLoadForCall: while the boxes that have the model are busy, a call goes to one that loads it, if
// it is expected to begin sooner there.
func TestLoadForCall(t *testing.T) {
	const soon, late = 2 * time.Second, 10 * time.Second // box3 has a slot in 5 s
	failed := func(s *backend.LocalState) {
		s.Reason, s.Detail, s.Alive, s.Returning = backend.Failed, "has failed", false, false
	}
	in := func(d time.Duration, status string) boxes.PeerState {
		return boxes.PeerState{Status: status, LoadsIn: d}
	}
	for name, tc := range map[string]struct {
		box2    boxes.PeerState
		then    func(*backend.LocalState) // what becomes of the load; nil = the call does not have the model loaded
		backend string
		reason  string
	}{
		"it loads sooner":       {in(soon, "unloaded"), ready, "box2/qwen", ""},
		"it is loading":         {in(soon, "loading"), ready, "box2/qwen", ""},
		"it loads later":        {in(late, "unloaded"), nil, "box3/qwen", ""},
		"it cannot load now":    {in(0, "unloaded"), nil, "box3/qwen", ""},
		"it is drained":         {boxes.PeerState{Status: "unloaded", LoadsIn: soon, Drained: true}, nil, "box3/qwen", ""},
		"the load fails":        {in(soon, "unloaded"), failed, "box3/qwen", "failed"},
		"the load takes longer": {in(soon, "unloaded"), loading, "box3/qwen", "loading"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			f := newFleet(t, hangs, hangs, answers, after(gate))
			for _, busy := range []*fixture{f.fixture, f.others[1]} {
				busy.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
				busy.begin(`{"model":"local/alone","stream":true}`)
				eventually(t, "the call has the slot", func() bool { return len(busy.local.requests()) == 1 })
			}
			f.router.routing.Load().Server("qwen").Served(time.Minute)
			f.others[1].router.routing.Load().Server("qwen").Served(5 * time.Second)
			there := f.others[0]
			there.state.transition(unloaded)
			f.set(2, tc.box2)
			answered := make(chan reply, 1)
			go func() { answered <- f.chat("local/alone", false) }()
			if tc.then != nil {
				eventually(t, "the model is wanted", func() bool { return len(there.state.received()) > 0 })
				there.state.transition(tc.then)
			}
			if tc.backend == "box3/qwen" {
				eventually(t, "the call waits at box3", func() bool { return f.others[1].router.Load("qwen").Queued == 1 })
				close(gate)
			}
			r := <-answered
			if r.status != http.StatusOK || r.backend() != tc.backend || r.reason() != tc.reason {
				t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
			}
			if n := len(there.local.requests()) + len(f.others[1].local.requests()); n != 2 { // one is that which makes box3 busy
				t.Errorf("%d servers got the call", n)
			}
			if wants := there.state.received(); (len(wants) > 0) != (tc.then != nil) {
				t.Errorf("the model was wanted: %v", wants)
			}
			f.local.CloseClientConnections()
		})
	}
}

// TestLoadRefused: the box that loads the model refuses a call for which the queue there has grown too
// long since it was announced.
func TestLoadRefused(t *testing.T) {
	f := newFleet(t, hangs, hangs, answers)
	f.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
	f.begin(`{"model":"local/alone","stream":true}`)
	eventually(t, "the call has the slot", func() bool { return len(f.local.requests()) == 1 })
	f.router.routing.Load().Server("qwen").Served(10 * time.Second)
	there := f.others[0]
	there.state.transition(loading)
	there.router.routing.Load().Server("qwen").Served(20 * time.Second)
	for range 4 {
		there.begin(`{"model":"local/alone","stream":true}`)
	}
	eventually(t, "calls wait there", func() bool { return there.router.Load("qwen").Queued == 4 })
	f.set(2, boxes.PeerState{Status: "loading", LoadsIn: time.Second})
	f.begin(`{"model":"local/alone","stream":true}`)
	eventually(t, "the call waits at its own box", func() bool { return f.router.Load("qwen").Queued == 1 })
	there.state.transition(ready)
}

// TestLoadHere: the box that the client calls loads the model, if all others that have it are busy.
func TestLoadHere(t *testing.T) {
	for name, tc := range map[string]struct {
		in      time.Duration
		backend string
		reason  string
	}{
		"sooner":            {time.Second, "qwen", ""},
		"later":             {time.Minute, "box2/qwen", "unloaded"},
		"it cannot be done": {0, "box2/qwen", "unloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			f := newFleet(t, hangs, answers, after(gate))
			other := f.others[0]
			other.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
			other.begin(`{"model":"local/alone","stream":true}`)
			eventually(t, "the call has the slot", func() bool { return len(other.local.requests()) == 1 })
			other.router.routing.Load().Server("qwen").Served(5 * time.Second)
			f.state.transition(func(s *backend.LocalState) { unloaded(s); s.LoadsIn = tc.in })
			answered := make(chan reply, 1)
			go func() { answered <- f.chat("local/qwen", true) }()
			if tc.backend == "qwen" {
				eventually(t, "the call waits for the model", func() bool { return f.router.Load("qwen").ForModel == 1 })
				f.state.transition(ready)
			} else {
				eventually(t, "the call waits at the other box", func() bool { return other.router.Load("qwen").Queued == 1 })
				close(gate)
			}
			if r := <-answered; r.status != http.StatusOK || r.backend() != tc.backend || r.reason() != tc.reason {
				t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
			}
		})
	}
}
