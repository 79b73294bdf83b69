package router

import (
	"fmt"
	"strings"
	"testing"

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
