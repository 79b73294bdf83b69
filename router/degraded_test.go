package router

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestDegradedAfterFallbackFailed: a degraded server is asked when the fallback has
// failed; the fallback is asked once.
func TestDegradedAfterFallbackFailed(t *testing.T) {
	for name, cloud := range map[string]func(*fixture){
		"refuses":    func(b *fixture) { b.cloud.handler = status(429, `{"error":{"message":"slow down"}}`) },
		"no credit":  func(b *fixture) { b.cloud.handler = status(402, `{"error":{"message":"no credit"}}`) },
		"is gone":    func(b *fixture) { b.cloud.CloseClientConnections(); b.cloud.Listener.Close() },
		"breaks off": func(b *fixture) { b.cloud.handler = breaks },
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", stream ", stream), func(t *testing.T) {
				b := newFixture(t, nil, answers)
				b.local.handler = b.local.answersInKind()
				b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded: it is hot" })
				cloud(b)
				if r := b.chat("local/qwen", stream); r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
					t.Errorf("%+v", r)
				}
				if n := len(b.cloud.requests()); n > 1 {
					t.Errorf("the cloud was asked %d times", n)
				}
			})
		}
	}
	b := newFixture(t, status(500, `{"error":{"message":"hot"}}`), status(402, `{"error":{"message":"no credit"}}`))
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded: it is hot" })
	if r := b.chat("local/qwen", false); r.status < 500 || !strings.Contains(r.body, "no credit") || !strings.Contains(r.body, "qwen") {
		t.Errorf("both failed: %+v", r)
	}
}

// TestDegradedFallback: a degraded server is used as a fallback.
func TestDegradedFallback(t *testing.T) {
	b := newFixture(t, answers, status(503, `{}`), func(_ *plan.Config, routes map[string]models.Route) {
		routes["cloud-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: waitLimit}
	})
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	if r := b.chat("cloud-first", false); r.status != 200 || r.backend() != "qwen" || r.reason() != "status" {
		t.Errorf("%d %s from %q (%s)", r.status, r.body, r.backend(), r.reason())
	}
}

func degraded(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded: it is hot" }

// TestDegradedWhileCallWaits: a call that leaves a server because it has become degraded comes back if
// the fallback fails.
func TestDegradedWhileCallWaits(t *testing.T) {
	failed := make(chan struct{})
	b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		<-failed
		status(402, `{"error":{"message":"no credit"}}`)(w, r)
	})
	gate := b.fill(answers)
	done := make(chan reply, 1)
	go func() { done <- b.chat("local/qwen", false) }()
	eventually(t, "the call waits", func() bool { return b.router.Load("qwen").Queued == 1 })
	b.state.transition(degraded)
	eventually(t, "the cloud is asked", func() bool { return len(b.cloud.requests()) == 1 })
	close(failed)
	close(gate)
	if r := <-done; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestDegradedBoxWhileCallWaits: the same holds for a call that goes to another box, which drains.
func TestDegradedBoxWhileCallWaits(t *testing.T) {
	for name, first := range map[string]int{"qwen": 0, "box2/qwen": 1} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, hangs, hangs, hangs)
			all, gates := []*fixture{f.fixture, f.others[0]}, make([]chan struct{}, 2)
			for i, box := range all {
				gates[i] = box.fill(answers)
			}
			here, there := all[first], all[1-first]
			here.router.routing.Load().Server("qwen").Served(time.Second)
			there.router.routing.Load().Server("qwen").Served(time.Minute)
			queued := func(box *fixture) func() bool {
				return func() bool { return box.router.Load("qwen").Queued == 1 }
			}
			done := make(chan reply, 1)
			go func() { done <- f.chat("local/alone", false) }()
			eventually(t, "the call waits", queued(here))
			here.state.transition(degraded)
			eventually(t, "the call waits on the other box", queued(there))
			there.state.transition(drained)
			eventually(t, "the call waits at the degraded server", queued(here))
			close(gates[first])
			if r := <-done; r.status != 200 || r.backend() != name {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
			close(gates[1-first])
		})
	}
}
