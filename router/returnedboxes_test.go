package router

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
)

// TestBoxReturns: a call whose box drains goes to a box that has returned since the call came, and
// only then to the cloud. Operators upgrade a fleet in this order.
func TestBoxReturns(t *testing.T) {
	ready, away := boxes.PeerState{Status: "ready", Slots: 4, Free: 4}, boxes.PeerState{Status: "drained"}
	refuses := status(500, `{"error":{"message":"broken"}}`)
	for name, tc := range map[string]struct {
		model     string
		other     http.HandlerFunc
		cloud     http.HandlerFunc
		then, now func(*fleet) // when the call comes, and before its own box drains
		backend   string
	}{
		"it was drained":            {"local/alone", answers, hangs, func(f *fleet) { f.set(2, away) }, func(f *fleet) { f.set(2, ready) }, "box2/qwen"},
		"it was not in the fleet":   {"local/alone", answers, hangs, func(f *fleet) { f.boxes.Set(boxes.Fleet{Name: "box1"}) }, func(f *fleet) { f.boxes.Set(f.ready) }, "box2/qwen"},
		"it comes before the cloud": {"local/qwen", answers, hangs, func(f *fleet) { f.set(2, away) }, func(f *fleet) { f.set(2, ready) }, "box2/qwen"},
		"it fails, once":            {"local/qwen", refuses, answers, func(f *fleet) { f.set(2, away) }, func(f *fleet) { f.set(2, ready) }, "openrouter"},
		"it is drained still":       {"local/qwen", hangs, answers, func(f *fleet) { f.set(2, away) }, func(*fleet) {}, "openrouter"},
		"the call keeps its edits":  {"local/edited", answers, hangs, func(f *fleet) { f.set(2, away) }, func(f *fleet) { f.set(2, ready) }, "box2/qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, tc.cloud, hangs, tc.other)
			f.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
			tc.then(f)
			f.begin(`{"model":"local/alone","messages":[]}`)
			eventually(t, "the box is full", func() bool { return len(f.local.requests()) == 1 })
			done := make(chan reply, 1)
			go func() { done <- f.chat(tc.model, false) }()
			eventually(t, "the call waits", func() bool { return f.router.Load("qwen").Queued == 1 })
			tc.now(f)
			f.state.transition(drained)
			if r := <-done; r.status != 200 || r.backend() != tc.backend || r.reason() != "drained" {
				t.Errorf("%d from %q, reason %q; want %q: %s", r.status, r.backend(), r.reason(), tc.backend, r.body)
			}
			if tc.model == "local/edited" && !strings.Contains(string(f.others[0].local.lastBody()), `"top_k":40`) {
				t.Errorf("box2 received %s", f.others[0].local.lastBody())
			}
		})
	}
}

// TestOwnBoxReturns: a call that came while its own box was drained, and waits on another box, comes
// back when that one drains.
func TestOwnBoxReturns(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	other := f.others[0]
	other.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
	other.begin(`{"model":"local/alone","messages":[]}`)
	eventually(t, "box2 is full", func() bool { return len(other.local.requests()) == 1 })
	f.local.behaves(answers)
	f.state.transition(drained)
	done := make(chan reply, 1)
	go func() { done <- f.chat("local/alone", false) }()
	eventually(t, "the call waits at box2", func() bool { return other.router.Load("qwen").Queued == 1 })
	f.state.transition(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = "", "", true })
	other.state.transition(drained)
	if r := <-done; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d from %q, reason %q: %s", r.status, r.backend(), r.reason(), r.body)
	}
}

// TestStreamContinuesOnReturnedBox: a stream that breaks continues on a box that has returned since
// the call came. While there is none, a drain waits for the stream.
func TestStreamContinuesOnReturnedBox(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	broken := make(chan struct{})
	waits := func(w http.ResponseWriter, r *http.Request) {
		<-broken
		breaks(w, r)
	}
	f := newFleet(t, hangs, sends(waits, firstChunk+textChunk(first)+textChunk(" 2")), sends(ends, textChunk(" 3"), strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1), usageEvent, doneEvent))
	f.set(2, boxes.PeerState{Status: "drained"})
	done := make(chan reply, 1)
	go func() {
		done <- f.post("/v1/chat/completions", `{"model":"local/alone","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
	}()
	eventually(t, "a drain would wait for the stream", func() bool { return f.router.Load("qwen").Bound == 1 })
	f.set(2, boxes.PeerState{Status: "ready", Slots: 4, Free: 4, Service: time.Second})
	close(broken)
	r := <-done
	if r.status != 200 || r.readErr != nil || !strings.Contains(r.body, ": resumed by box2/qwen\n") {
		t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
	}
	if got := streamText(t, r.body); got != first+" 2 3" {
		t.Errorf("the text is %q", got)
	}
}

// restart replaces the process of a box, at the same address.
func (f *fleet) restart(box int) {
	f.ready.Boxes[box-2].Instance += "i"
	f.boxes.Set(f.ready)
}

// TestBoxRestarts: a box that is restarted while a call waits on another one gets the call when that
// drains.
func TestBoxRestarts(t *testing.T) {
	for _, model := range []string{"local/alone", "local/qwen"} {
		t.Run(model, func(t *testing.T) {
			f := newFleet(t, hangs, hangs, answers)
			other := f.others[0]
			f.fill(hangs)
			other.fill(answers)
			other.router.routing.Load().Server("qwen").Served(time.Minute)
			done := make(chan reply, 1)
			go func() { done <- f.chat(model, false) }()
			eventually(t, "the call waits", func() bool { return f.router.Load("qwen").Queued == 1 })
			other.state.transition(func(s *backend.LocalState) { s.Slots = 4 })
			f.restart(2)
			f.state.transition(drained)
			if r := <-done; r.status != 200 || r.backend() != "box2/qwen" || len(f.cloud.requests()) > 0 {
				t.Errorf("%d from %q, reason %q: %s", r.status, r.backend(), r.reason(), r.body)
			}
			f.local.CloseClientConnections()
			other.local.CloseClientConnections()
		})
	}
}

// TestStreamContinuesOnRestartedBox: a stream continues on a box that was restarted since it began.
func TestStreamContinuesOnRestartedBox(t *testing.T) {
	restarted := make(chan struct{})
	f := newFleet(t, hangs, sends(func(w http.ResponseWriter, r *http.Request) {
		<-restarted
		breaks(w, r)
	}, firstChunk+textChunk(brokenText)+textChunk(" 2")), continuesStream)
	done := make(chan reply, 1)
	go func() { done <- f.post("/v1/chat/completions", `{"model":"local/qwen"`+countStream) }()
	eventually(t, "the stream has begun", func() bool { return f.router.Load("qwen").Bytes > 0 })
	f.restart(2)
	close(restarted)
	f.wantContinued(<-done, "qwen", "box2/qwen")
}

// TestStreamWithoutOtherBox: a drain waits for a stream that only a box could continue which has left
// the fleet before the stream began.
func TestStreamWithoutOtherBox(t *testing.T) {
	begin := make(chan struct{})
	f := newFleet(t, hangs, func(w http.ResponseWriter, r *http.Request) {
		<-begin
		sends(hangs, firstChunk+textChunk(brokenText))(w, r)
	}, hangs)
	done := make(chan reply, 1)
	go func() { done <- f.post("/v1/chat/completions", `{"model":"local/alone"`+countStream) }()
	eventually(t, "the call is sent", func() bool { return len(f.local.requests()) == 1 })
	if n := f.router.Load("qwen").Bound; n != 0 {
		t.Errorf("%d calls are bound, and another box can answer", n)
	}
	f.boxes.Set(boxes.Fleet{Name: "box1"})
	close(begin)
	eventually(t, "a drain would wait for the stream", func() bool { return f.router.Load("qwen").Bound == 1 })
	f.local.CloseClientConnections()
	<-done
}
