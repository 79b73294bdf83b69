package router

import (
	"net/http"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestFallbackOn: fallback_on restricts the reasons for which a call moves.
func TestFallbackOn(t *testing.T) {
	for name, tc := range map[string]struct {
		on      []string
		local   http.HandlerFunc
		state   func(*backend.LocalState)
		status  int
		backend string
	}{
		"every reason":            {nil, breaks, nil, 200, "openrouter"},
		"one that is named":       {[]string{"timeout", "lost"}, breaks, nil, 200, "openrouter"},
		"one that is not":         {[]string{"timeout"}, breaks, nil, 502, ""},
		"its own error":           {[]string{"timeout"}, status(400, `{"error":{"message":"no","type":"invalid_request_error"}}`), nil, 400, "qwen"},
		"too long for local":      {[]string{"context_overflow"}, status(400, `{"error":{"code":400,"type":"exceed_context_size_error"}}`), nil, 200, "openrouter"},
		"loading, and named":      {[]string{"loading"}, answers, func(s *backend.LocalState) { s.Alive, s.Reason = false, backend.Loading }, 200, "openrouter"},
		"loading, and not named":  {[]string{"lost"}, answers, func(s *backend.LocalState) { s.Alive, s.Reason = false, backend.Loading }, 503, ""},
		"degraded, and not named": {[]string{"lost"}, answers, func(s *backend.LocalState) { s.Reason = backend.Degraded }, 200, "qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.local, answers, func(_ *plan.Config, routes map[string]models.Route) {
				routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: time.Minute, FallbackOn: models.NewWordList(tc.on...)}
			})
			if tc.state != nil {
				b.state.edit(tc.state)
			}
			r := b.chat("local/qwen", false)
			if r.status != tc.status || r.backend() != tc.backend {
				t.Errorf("%d from %q, want %d from %q: %s", r.status, r.backend(), tc.status, tc.backend, r.body)
			}
			if want := map[bool]int{true: 1}[tc.backend == "openrouter"]; len(b.cloud.requests()) != want {
				t.Errorf("the cloud was asked %d times", len(b.cloud.requests()))
			}
			if tc.status >= 500 && gjson.Get(r.body, "error.message").Str == "" {
				t.Errorf("no word on why: %s", r.body)
			}
		})
	}
}
