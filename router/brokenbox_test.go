package router

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

// asBox answers as a box whose server qwen behaves in a way.
func asBox(behave http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderBackend, "qwen")
		behave(w, r)
	}
}

// refusesWith refuses calls as a box does whose server has no free slot.
func refusesWith(wait string) http.HandlerFunc {
	return status(429, `{"error":{"message":"busy"}}`, wire.HeaderReason, "saturated", wire.HeaderWait, wait)
}

// TestBrokenBox: whatever a box answers that is asked, the call is answered by another one.
func TestBrokenBox(t *testing.T) {
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		calls  int // at most, that the broken box gets
	}{
		"it says a negative time":         {refusesWith("-5"), 1},
		"a time that does not fit":        {refusesWith("9223372036854775807"), 1},
		"a time whose sum does not fit":   {refusesWith("9223372036854"), 1},
		"a time of years":                 {refusesWith("99999999999"), 1},
		"a time that is no number":        {refusesWith("NaN"), 1},
		"no time":                         {status(429, `{}`, wire.HeaderReason, "saturated"), 1},
		"it refuses for ever":             {refusesWith("0"), 2},
		"its queue is full":               {status(429, `{}`, wire.HeaderReason, "saturated", "Retry-After", "86400"), 1},
		"200 with nothing":                {asBox(status(200, ``)), 2}, // again, with the body as the client wrote it
		"200, cut off":                    {asBox(sends(breaks, `{"choices":[`)), 2},
		"a stream with nothing":           {asBox(sends(ends)), 2},
		"a stream without an answer":      {asBox(sends(ends, firstChunk, doneEvent)), 2},
		"an error in a 200":               {asBox(sends(ends, `{"error":{"message":"broken"}}`)), 2},
		"a web page":                      {asBox(sends(ends, "<html>Welcome</html>")), 2},
		"it sends the call back":          {status(508, `{}`, wire.HeaderReason, "status"), 1},
		"it does not know the call's box": {status(403, `{}`), 1},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", stream), func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, hangs, hangs, hangs)
				gate := f.fill(answers)
				f.router.routing.Load().Server("qwen").Served(time.Second)
				broken := newFakeBackend(t, tc.behave)
				f.ready.Boxes[0].Address = broken.URL
				f.set(2, boxes.PeerState{Status: "ready", Slots: 4, Free: 4, Aggregation: !stream})
				answered := make(chan reply, 1)
				go func() { answered <- f.chat("local/alone", stream) }()
				eventually(t, "the call waits at its own box", func() bool { return f.router.Load("qwen").Queued == 1 })
				close(gate)
				if r := <-answered; r.status != 200 || r.backend() != "qwen" {
					t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
				}
				if n := len(broken.requests()); n == 0 || n > tc.calls {
					t.Errorf("the broken box got %d calls", n)
				}
				if n := len(f.local.requests()); n != 2 { // one is that which took the slot
					t.Errorf("the own server got %d calls", n)
				}
			})
		}
	}
}

// TestBoxRestartsAfterRefusal: a box that was asked, and is another process when the call is to wait
// there, is left.
func TestBoxRestartsAfterRefusal(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	gate := f.fill(answers)
	f.router.routing.Load().Server("qwen").Served(time.Minute)
	var restarting *fakeBackend
	restarting = newFakeBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_ = restarting.Listener.Close()
		w.Header().Set("Connection", "close")
		refusesWith("1")(w, r)
	})
	f.ready.Boxes[0].Address = restarting.URL
	f.set(2, boxes.PeerState{Status: "ready", Slots: 4, Free: 4})
	answered := make(chan reply, 1)
	go func() { answered <- f.chat("local/alone", false) }()
	eventually(t, "the call waits at its own box", func() bool { return f.router.Load("qwen").Queued == 1 })
	close(gate)
	if r := <-answered; r.status != 200 || r.backend() != "qwen" || len(restarting.requests()) != 1 {
		t.Errorf("%d from %q after %d calls there: %s", r.status, r.backend(), len(restarting.requests()), r.body)
	}
}

// TestManyBoxesFail: in a fleet of more boxes than a call asks, boxes that cannot be reached do not
// count as asked: the call gets to the one that can answer. But a call that breaks each server that
// gets it does not break all.
func TestManyBoxesFail(t *testing.T) {
	const many = 200
	f := newFleet(t, hangs, hangs, answers)
	f.state.edit(drained)
	server := map[string]boxes.PeerState{"qwen": {Status: "ready", Slots: 4, Free: 4}}
	good := f.ready.Boxes[0]
	ask := func(address string, others ...boxes.Box) reply {
		f.ready.Boxes = others
		for i := range many {
			f.ready.Boxes = append(f.ready.Boxes, boxes.Box{Name: fmt.Sprint("lost", i), Instance: address, Address: address, Hop: "box1 code", Servers: server})
		}
		f.boxes.Set(f.ready)
		return f.chat("local/alone", false)
	}
	if r := ask("http://127.0.0.1:1", good); r.status != 200 || r.backend() != "box2/qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
	breaking := newFakeBackend(t, asBox(status(500, `{"error":{"message":"broken"}}`)))
	if r := ask(breaking.URL); r.status < 500 || !strings.Contains(r.body, "broken") {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
	if n := len(breaking.requests()); n != 17 {
		t.Errorf("%d boxes got a call that breaks them", n)
	}
}

// TestOneHop: two boxes that know each other, and each of which takes the other one for the home of a
// conversation, do not send its call to and fro.
func TestOneHop(t *testing.T) {
	for name, tc := range map[string]struct {
		second http.HandlerFunc
		change func(second *fixture)
	}{
		"the other box is drained":        {hangs, func(b *fixture) { b.state.edit(drained) }},
		"its server fails":                {status(500, `{"error":{"message":"broken"}}`), func(*fixture) {}},
		"its server has no free slot":     {hangs, func(b *fixture) { b.fill(status(500, `{}`)) }},
		"its server breaks its answer":    {sends(breaks, firstChunk), func(*fixture) {}},
		"the prompt exceeds its context":  {status(400, `{"error":{"message":"too long","type":"exceed_context_size_error"}}`), func(*fixture) {}},
		"its server answers with nothing": {status(200, ``), func(*fixture) {}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, hangs, hangs, tc.second)
			second := f.others[0]
			var back, there atomic.Int64 // hops
			counts := func(n *atomic.Int64) func(string, string) bool {
				return func(string, string) bool { n.Add(1); return true }
			}
			f.ready.Verify = counts(&back)
			f.boxes.Set(f.ready)
			first := boxes.Box{Name: "box1", Instance: "i", Address: f.url, Hop: "box2 code", Servers: map[string]boxes.PeerState{"qwen": {Status: "ready", Slots: 4, Free: 4}}}
			second.router.routing.Load().Boxes.Set(boxes.Fleet{Name: "box2", Verify: counts(&there), Boxes: []boxes.Box{first}})
			f.state.edit(drained)
			tc.change(second)
			answered := make(chan reply, 1)
			go func() {
				answered <- f.post("/v1/chat/completions", `{"model":"local/short-alone","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`)
			}()
			if r := <-answered; r.status < 400 {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
			if n := there.Load(); n == 0 || n > 3 || back.Load() != 0 {
				t.Errorf("%d hops there, %d back", n, back.Load())
			}
		})
	}
}
