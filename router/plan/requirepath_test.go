package plan

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// TestRequirePath: a call to a path that the local servers lack goes to an upstream, for
// which it neither waits nor asks a server first.
func TestRequirePath(t *testing.T) {
	engine := models.Capabilities{Program: "engine", Public: []string{"/v1/has"}}
	for name, tc := range map[string]struct {
		state  string
		path   string
		route  models.Route
		want   string
		reason backend.Reason
		error  string // a part of the client's error; "" = none
	}{
		"it has the path":        {"ready", "/v1/has", models.Route{Primary: "qwen", Fallback: "cloud"}, "qwen cloud", "", ""},
		"a fallback":             {"ready", "/v1/no", models.Route{Primary: "qwen", Fallback: "cloud"}, "cloud", backend.Unsupported, ""},
		"loading":                {"loading", "/v1/no", models.Route{Primary: "qwen", Fallback: "cloud"}, "cloud", backend.Unsupported, ""},
		"no fallback":            {"ready", "/v1/no", models.Route{Primary: "qwen"}, "", backend.Unsupported, "qwen: engine has no /v1/no; the route m has no fallback"},
		"loading, no fallback":   {"loading", "/v1/no", models.Route{Primary: "qwen"}, "", backend.Unsupported, "has no /v1/no"},
		"a local fallback":       {"ready", "/v1/no", models.Route{Primary: "qwen", Fallback: "mini"}, "", backend.Unsupported, "has no /v1/no"},
		"the fallback lacks key": {"ready", "/v1/no", models.Route{Primary: "qwen", Fallback: "keyless"}, "", backend.Unsupported, "set KEY"},
		"fallback_on":            {"ready", "/v1/no", models.Route{Primary: "qwen", Fallback: "cloud", FallbackOn: "timeout"}, "", backend.Unsupported, "fallback_on does not list unsupported"},
		"an upstream first":      {"loading", "/v1/no", models.Route{Primary: "cloud", Fallback: "qwen"}, "cloud", "", ""},
		"upstreams":              {"ready", "/v1/no", models.Route{Primary: "cloud"}, "cloud", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRouting(t, tc.state, "ready", map[string]models.Route{"m": tc.route}).Plan("m")
			p.RequirePath(engine, tc.path)
			if names(p) != tc.want || p.Reason != tc.reason || p.WaitFor != "" {
				t.Errorf("%q (%s, waits for %q), want %q (%s)", names(p), p.Reason, p.WaitFor, tc.want, tc.reason)
			}
			if (p.Rejection.Status == 501) != (tc.error != "") || !strings.Contains(p.Rejection.Message, tc.error) {
				t.Errorf("%+v, want %q", p.Rejection, tc.error)
			}
		})
	}
}
