package router

import (
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
)

// TestLoadForCall: while the boxes that have the model are busy, a call goes to one that loads it, if
// it is expected to begin sooner there.
func TestLoadForCall(t *testing.T) {
	const soon, late = 2 * time.Second, 10 * time.Second // the own box has a slot in 5 s
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
		"the load takes longer": {in(25*time.Millisecond, "unloaded"), loading, "box3/qwen", "loading"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, hangs, hangs, answers, answers)
			f.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
			f.begin(`{"model":"local/alone","stream":true}`)
			eventually(t, "the call has the slot", func() bool { return f.router.Load("qwen").Calls == 1 })
			there := f.others[0]
			there.state.transition(unloaded)
			f.set(2, tc.box2)
			f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 1, Service: 2 * time.Second}) // in fact it has no call
			answered := make(chan reply, 1)
			go func() { answered <- f.chat("local/alone", false) }()
			if tc.then != nil {
				eventually(t, "the model is wanted", func() bool { return len(there.state.received()) > 0 })
				there.state.transition(tc.then)
			}
			r := <-answered
			if r.status != http.StatusOK || r.backend() != tc.backend || r.reason() != tc.reason {
				t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
			}
			if n := len(there.local.requests()) + len(f.others[1].local.requests()); n != 1 {
				t.Errorf("%d servers got the call", n)
			}
			if wants := there.state.received(); (len(wants) > 0) != (tc.then != nil) {
				t.Errorf("the model was wanted: %v", wants)
			}
			f.local.CloseClientConnections()
		})
	}
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
			f := newFleet(t, hangs, answers, answers)
			f.state.transition(func(s *backend.LocalState) { unloaded(s); s.LoadsIn = tc.in })
			f.set(2, boxes.PeerState{Status: "ready", Slots: 1, Queued: 4, Service: time.Second})
			answered := make(chan reply, 1)
			go func() { answered <- f.chat("local/qwen", true) }()
			if tc.backend == "qwen" {
				eventually(t, "the call waits for the model", func() bool { return f.router.Load("qwen").ForModel == 1 })
				if e := f.router.Explain("local/qwen"); e.Backend != "qwen" || e.WaitFor != "qwen is unloaded: idle for 15 min" || e.WaitLimit != 2*tc.in {
					t.Errorf("%+v", e)
				}
				f.state.transition(ready)
			}
			if r := <-answered; r.status != http.StatusOK || r.backend() != tc.backend || r.reason() != tc.reason {
				t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
			}
		})
	}
}
