package router

import (
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

func isDegraded(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" }

// TestDegradedBoxes: a degraded server is used after all others, whatever its box.
func TestDegradedBoxes(t *testing.T) {
	refuses := status(500, `{"error":{"message":"broken"}}`)
	other := func(f *fleet) { f.set(2, boxes.PeerState{Status: "degraded", Slots: 4, Free: 4}) }
	for name, tc := range map[string]struct {
		model              string
		own, cloud, second http.HandlerFunc
		change             func(*fleet)
		backend            string
	}{
		"only another box has it":      {"local/elsewhere", hangs, hangs, answers, other, "box2/elsewhere"},
		"the own box fails":            {"local/alone", refuses, hangs, answers, other, "box2/qwen"},
		"the own box is drained":       {"local/alone", hangs, hangs, answers, func(f *fleet) { other(f); f.state.edit(drained) }, "box2/qwen"},
		"the own box loads":            {"local/alone", hangs, hangs, answers, func(f *fleet) { other(f); f.state.transition(loading) }, "box2/qwen"},
		"the own box is ready":         {"local/alone", answers, hangs, hangs, other, "qwen"},
		"the cloud answers":            {"local/qwen", hangs, answers, hangs, func(f *fleet) { other(f); f.state.edit(drained) }, "openrouter"},
		"the cloud fails":              {"local/qwen", hangs, refuses, answers, func(f *fleet) { other(f); f.state.edit(drained) }, "box2/qwen"},
		"fallback_on is for the cloud": {"local/lost", hangs, hangs, answers, func(f *fleet) { other(f); f.state.edit(drained) }, "box2/qwen"},
		"the own box is degraded":      {"local/alone", hangs, hangs, answers, func(f *fleet) { f.state.edit(isDegraded) }, "box2/qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, tc.cloud, tc.own, tc.second)
			tc.change(f)
			if r := f.chat(tc.model, false); r.status != 200 || r.backend() != tc.backend {
				t.Errorf("%d from %q, want %q: %s", r.status, r.backend(), tc.backend, r.body)
			}
			f.local.CloseClientConnections()
		})
	}
}

// TestOtherProgramAtBoxAddress: what a program answers that is not the box is not passed on.
func TestOtherProgramAtBoxAddress(t *testing.T) {
	for name, behave := range map[string]http.HandlerFunc{
		"200": sends(ends, "<html>Welcome</html>"), "301": status(301, "", "Location", "/elsewhere"), "400": status(400, "<html>Bad Request</html>"),
		"401": status(401, `{"error":{"message":"key"}}`), "404": status(404, "<html>Not Found</html>"), "413": status(413, "<html>Too large</html>"),
		"stream": sends(ends, firstChunk, doneEvent), "an answer": answers,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, hangs, answers, hangs)
			program := newFakeBackend(t, behave)
			f.ready.Boxes[0].Address = program.URL
			f.boxes.Set(f.ready)
			f.state.edit(isDegraded) // it comes last
			if r := f.chat("local/alone", false); r.status != 200 || r.backend() != "qwen" {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
			f.state.edit(drained)
			if r := f.chat("local/alone", false); r.status != 502 && r.status != 503 {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
			f.local.CloseClientConnections()
		})
	}
}

// TestErrorOfOtherBox: an error of the engine on another box has the effect of one of the own
// engine.
func TestErrorOfOtherBox(t *testing.T) {
	for name, tc := range map[string]struct {
		second  http.HandlerFunc
		backend string
		reason  string // as fallback_on lists it
		status  int
	}{
		"context":          {status(400, `{"error":{"message":"too long","type":"exceed_context_size_error"}}`), "openrouter", "context_overflow", 200},
		"batch":            {status(500, `{"error":{"message":"input (600 tokens) is too large to process. increase the physical batch size (current batch size: 512)"}}`), "openrouter", "context_overflow", 200},
		"image":            {status(500, `{"error":{"message":"image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"}}`), "openrouter", "unsupported", 200},
		"another":          {status(500, `{"error":{"message":"broken"}}`), "box2/qwen", "context_overflow", 500},
		"its own 403":      {status(403, `{"error":{"message":"no"}}`), "box2/qwen", "context_overflow", 403},
		"an invalid value": {status(400, `{"error":{"message":"no","type":"invalid_request_error"}}`), "box2/qwen", "unsupported", 400},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, answers, hangs, tc.second)
			f.state.edit(drained)
			model := "local/on-" + tc.reason
			if r := f.chat(model, false); r.status != tc.status || r.backend() != tc.backend {
				t.Errorf("%d from %q, want %d from %q: %s", r.status, r.backend(), tc.status, tc.backend, r.body)
			}
			if tc.status != 200 && len(f.cloud.requests()) > 0 {
				t.Error("the cloud was asked")
			}
			if now := f.boxes.Servers("qwen")[0].Availability(); now.Reason != "" {
				t.Errorf("the box is %+v", now)
			}
		})
	}
}

// TestOtherBoxTakesSmallerBodies: a box that rejects a request which this one has accepted says
// so: the call moves on, and the box gets others.
func TestOtherBoxTakesSmallerBodies(t *testing.T) {
	f := newFleet(t, answers, hangs, answers)
	f.state.edit(drained)
	body := `{"model":"local/qwen","messages":[{"role":"user","content":"` + strings.Repeat("1 ", otherBodies/2) + `"}]}`
	if r := f.post("/v1/chat/completions", body); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
	if r := f.chat("local/qwen", false); r.status != 200 || r.backend() != "box2/qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestTimeOfAllBoxes: the cloud is asked after the route's time, however many boxes hang.
func TestTimeOfAllBoxes(t *testing.T) {
	f := newFleet(t, answers, hangs, hangs, hangs, hangs)
	f.state.edit(isDegraded)
	r := f.chat("local/short", false)
	if r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
	asked := 0
	for _, other := range f.others {
		asked += len(other.local.requests())
	}
	if asked > 1 {
		t.Errorf("%d boxes had the call, each for the whole time of the route", asked)
	}
}

// TestFallbackOnOtherBox: a fallback that is a server which this box does not have is found on
// another box.
func TestFallbackOnOtherBox(t *testing.T) {
	refuses := status(500, `{"error":{"message":"broken"}}`)
	for name, tc := range map[string]struct {
		model   string
		change  func(*fleet)
		status  int
		backend string
	}{
		"the cloud fails":       {"premium", func(*fleet) {}, 200, "box2/elsewhere"},
		"the own server fails":  {"local/other-fallback", func(f *fleet) { f.ready.Boxes[0].Servers["qwen"] = boxes.PeerState{Status: "failed"} }, 200, "box2/elsewhere"},
		"no box has it":         {"premium", func(f *fleet) { f.ready.Boxes = nil }, 500, "openrouter"},
		"it is drained there":   {"premium", func(f *fleet) { f.ready.Boxes[0].Servers["elsewhere"] = boxes.PeerState{Status: "drained"} }, 500, "openrouter"},
		"it is degraded there":  {"premium", func(f *fleet) { f.ready.Boxes[0].Servers["elsewhere"] = boxes.PeerState{Status: "degraded"} }, 200, "box2/elsewhere"},
		"its first box is gone": {"premium", func(f *fleet) { f.ready.Boxes[0].Address = "http://127.0.0.1:1" }, 200, "box3/elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, refuses, refuses, answers, answers)
			f.ready.Boxes = f.ready.Boxes[:1+strings.Count(tc.backend, "box3")]
			tc.change(f)
			f.boxes.Set(f.ready)
			if r := f.chat(tc.model, false); r.status != tc.status || r.backend() != tc.backend {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
		})
	}
}

// TestReasonOfNewerVersion: a box that refuses a call for a reason that this one does not know is not
// taken for another program, and gets the next call.
func TestReasonOfNewerVersion(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	asked := 0
	box := newFakeBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			status(503, `{"error":{"message":"asleep"}}`, wire.HeaderReason, "asleep")(w, r)
			return
		}
		w.Header().Set(wire.HeaderBackend, "qwen")
		answers(w, r)
	})
	f.ready.Boxes[0].Address = box.URL
	f.boxes.Set(f.ready)
	f.state.edit(drained)
	if r := f.chat("local/alone", false); r.status != 503 && r.status != 502 || !strings.Contains(r.body, "box2/qwen did not accept the call (asleep)") {
		t.Errorf("%d: %s", r.status, r.body)
	}
	if r := f.chat("local/alone", false); r.status != 200 || r.backend() != "box2/qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}
