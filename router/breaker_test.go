package router

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestShortTimeoutsDoNotOpenBreaker: the timeouts of a route with a short limit do not
// open the upstream's circuit breaker for other routes.
func TestShortTimeoutsDoNotOpenBreaker(t *testing.T) {
	b := newFixture(t, answers, nil, func(_ *plan.Config, routes map[string]models.Route) {
		routes["short"] = models.Route{Primary: "openrouter", PrimaryModel: "slow", Fallback: "qwen", Timeout: 50 * time.Millisecond}
	})
	b.cloud.handler = func(w http.ResponseWriter, r *http.Request) {
		if bytes.Contains(b.cloud.lastBody(), []byte(`"slow"`)) {
			<-r.Context().Done()
			return
		}
		answers(w, r)
	}
	for range backend.BreakAfter + 1 {
		if r := b.chat("short", false); r.backend() != "qwen" || r.reason() != "timeout" {
			t.Errorf("%+v", r)
		}
	}
	if r := b.chat("gpt-4o", false); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("a call with a long timeout: %+v", r)
	}
}

// TestBrokenStreamsDoNotOpenBreaker: broken streams of one model do not open the
// upstream's circuit breaker for other models.
func TestBrokenStreamsDoNotOpenBreaker(t *testing.T) {
	b := newFixture(t, answers, nil)
	b.cloud.handler = func(w http.ResponseWriter, r *http.Request) {
		if bytes.Contains(b.cloud.lastBody(), []byte(`"broken/model"`)) {
			sends(breaks, roleEvent)(w, r)
			return
		}
		answers(w, r)
	}
	for range backend.BreakAfter {
		if r := b.chat("broken/model", true); r.status != 502 {
			t.Errorf("%+v", r)
		}
	}
	if r := b.chat("gpt-4o", false); r.status != 200 {
		t.Errorf("another model: %+v", r)
	}
}
