package router

import (
	"net/http"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestThreeFallbacks: a call goes to one fallback after another, in their order, and the
// client is told about all that failed.
func TestThreeFallbacks(t *testing.T) {
	overloaded := status(http.StatusServiceUnavailable, `{"error":{"message":"busy"}}`, "Retry-After", "600")
	for name, tc := range map[string]struct {
		second, third http.HandlerFunc
		want          string // the backend that answers; "" = none
	}{
		"the second answers":               {answers, answers, "second"},
		"the third answers":                {overloaded, answers, "third"},
		"the second breaks, and was paid":  {breaks, answers, ""},
		"all are overloaded":               {overloaded, overloaded, ""},
		"the second finds the call wrong":  {status(http.StatusBadRequest, `{"error":{"message":"wrong"}}`), answers, ""},
		"the second has another key, then": {status(http.StatusUnauthorized, `{"error":{"message":"key"}}`), answers, "third"},
	} {
		t.Run(name, func(t *testing.T) {
			second, third := newPeer(t, tc.second), newPeer(t, tc.third)
			b := newBench(t, status(http.StatusInternalServerError, `{"error":{"message":"no"}}`), overloaded, func(c *plan.Config, routes map[string]models.Route) {
				c.Upstreams = append(
					c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k2"}, backend.UpstreamConfig{Name: "third", BaseURL: third.URL, Key: "k3"},
				)
				route := routes["local/qwen"]
				route.Fallback, route.FallbackModel = "", ""
				route.Fallbacks = []models.Fallback{{To: "openrouter", Model: "a"}, {To: "second", Model: "b"}, {To: "third", Model: "c"}}
				routes["local/qwen"] = route
			})
			r := b.chat("local/qwen", false)
			if r.backend() != tc.want || (r.status == http.StatusOK) != (tc.want != "") {
				t.Errorf("%+v", r)
			}
		})
	}
}
