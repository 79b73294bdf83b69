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

// TestHastyRoute: a route that gives up soon does not close an upstream to the
// others.
func TestHastyRoute(t *testing.T) {
	b := newBench(t, answers, nil, func(_ *plan.Config, routes map[string]models.Route) {
		routes["hasty"] = models.Route{Primary: "openrouter", PrimaryModel: "slow", Fallback: "qwen", Timeout: 50 * time.Millisecond}
	})
	b.cloud.behave = func(w http.ResponseWriter, r *http.Request) {
		if bytes.Contains(b.cloud.lastBody(), []byte(`"slow"`)) {
			<-r.Context().Done()
			return
		}
		answers(w, r)
	}
	for range backend.BreakAfter + 1 {
		if r := b.chat("hasty", false); r.backend() != "qwen" || r.reason() != "timeout" {
			t.Errorf("%+v", r)
		}
	}
	if r := b.chat("gpt-4o", false); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("a patient call: %+v", r)
	}
}

// TestBrokenModel: streams of one model that break do not close an upstream to the
// others.
func TestBrokenModel(t *testing.T) {
	b := newBench(t, answers, nil)
	b.cloud.behave = func(w http.ResponseWriter, r *http.Request) {
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
