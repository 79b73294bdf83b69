package router

import (
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/plan"
)

// TestServerReadyAfterTimeout: a server that has become ready while the fallback was asked gets the
// call if that fails, also when the route's time is over.
func TestServerReadyAfterTimeout(t *testing.T) {
	const timeout = 250 * time.Millisecond
	failed := make(chan struct{})
	b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		<-failed
		status(402, `{"error":{"message":"no credit"}}`)(w, r)
	}, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/short"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: timeout}
	})
	defer close(b.fill(answers))
	done := make(chan reply, 1)
	go func() { done <- b.chat("local/short", false) }()
	eventually(t, "the call waits", func() bool { return b.router.Load("qwen").Queued == 1 })
	b.state.transition(loading)
	eventually(t, "the cloud is asked", func() bool { return len(b.cloud.requests()) == 1 })
	outlast(timeout)
	b.state.transition(ready)
	close(failed)
	if r := <-done; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestBoxesAfterTimeout: boxes for which a call has no time left are asked after the fallbacks.
func TestBoxesAfterTimeout(t *testing.T) {
	refuses := status(500, `{"error":{"message":"broken"}}`)
	for name, tc := range map[string]struct {
		model   string
		cloud   http.HandlerFunc
		backend string
		calls   int // of the cloud
	}{
		"the fallback answers":             {"local/short", answers, "openrouter", 1},
		"the fallback fails":               {"local/short", refuses, "box2/qwen", 1},
		"fallback_on excludes the timeout": {"local/short-lost", answers, "box2/qwen", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, tc.cloud, hangs, answers)
			if r := f.chat(tc.model, false); r.status != 200 || r.backend() != tc.backend || r.reason() != "timeout" {
				t.Errorf("%d from %q, reason %q: %s", r.status, r.backend(), r.reason(), r.body)
			}
			if n := len(f.cloud.requests()); n != tc.calls {
				t.Errorf("the cloud was asked %d times", n)
			}
		})
	}
}

// TestStreamContinuesAfterTimeout: a box continues a stream, also if another one has taken all of the
// route's time to fail to.
func TestStreamContinuesAfterTimeout(t *testing.T) {
	f := newFleet(t, hangs, beginsStream, hangs, continuesStream)
	f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 9}) // box2 is asked first
	f.wantContinued(f.post("/v1/chat/completions", `{"model":"local/short"`+countStream), "qwen", "box3/qwen")
	if n := len(f.others[0].local.requests()); n != 1 {
		t.Errorf("box2 was asked %d times", n)
	}
}

// TestLoadAfterTimeout: a box that was to load the model for a call, and took too long, gets it once more
// if all others have failed.
func TestLoadAfterTimeout(t *testing.T) {
	failed := make(chan struct{})
	f := newFleet(t, func(w http.ResponseWriter, r *http.Request) {
		<-failed
		status(402, `{"error":{"message":"no credit"}}`)(w, r)
	}, answers, hangs)
	f.others[0].fill(hangs)
	f.others[0].router.routing.Load().Server("qwen").Served(time.Minute)
	f.state.transition(func(s *backend.LocalState) { unloaded(s); s.LoadsIn = 10 * time.Millisecond })
	done := make(chan reply, 1)
	go func() { done <- f.chat("local/short", false) }()
	eventually(t, "the cloud is asked", func() bool { return len(f.cloud.requests()) == 1 })
	outlast(time.Second)
	close(failed)
	eventually(t, "the call waits for the model", func() bool { return f.router.Load("qwen").ForModel == 1 })
	f.state.transition(ready)
	if r := <-done; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}
