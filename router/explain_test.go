package router

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestRoutesWithoutFallback: a route has no fallback while its server is drained and no
// other backend can take its calls.
func TestRoutesWithoutFallback(t *testing.T) {
	b := newFixture(t, answers, answers, func(c *plan.Config, routes map[string]models.Route) {
		clear(routes)
		c.Locals["mini"], c.Locals["second"] = &fakeLocal{}, &fakeLocal{}
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "keyless", BaseURL: "http://127.0.0.1:9/v1", Missing: "set its key"})
		for name, route := range map[string]models.Route{
			"alone":     {Primary: "qwen"},
			"cloud":     {Primary: "qwen", Fallback: "openrouter"},
			"keyless":   {Primary: "qwen", Fallback: "keyless"},
			"local":     {Primary: "qwen", Fallback: "mini"},
			"mini":      {Primary: "mini", Fallback: "qwen"},
			"only-lost": {Primary: "mini", Fallback: "openrouter", FallbackOn: models.NewWordList("lost")},
			"upstream":  {Primary: "openrouter", Fallback: "mini"},
		} {
			route.Timeout = 1
			routes[name] = route
		}
	})
	for drained, want := range map[string]string{
		"":                 "",
		"qwen":             "alone keyless",
		"mini":             "only-lost",
		"qwen mini":        "alone keyless local mini only-lost",
		"second":           "",
		"mini second qwen": "alone keyless local mini only-lost",
		"unknown":          "",
	} {
		if got := strings.Join(b.router.RoutesWithoutFallback(strings.Fields(drained)), " "); got != want {
			t.Errorf("drained %q: %q, want %q", drained, got, want)
		}
	}
}
