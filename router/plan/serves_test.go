package plan

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// TestServes: a call to a path that a server's engine lacks goes elsewhere. It neither waits for
// the server nor asks it first, whatever the state.
func TestServes(t *testing.T) {
	const has, lacks, own = "/v1/embeddings", "/v1/images/generations", "/tokenize"
	for name, tc := range map[string]struct {
		states string // of qwen, and of mini
		path   string
		route  models.Route
		want   string
		waits  string // the server for which it waits; "" = none
		reason backend.Reason
		status int    // of the client's error; 0 = none
		error  string // a part of it
	}{
		"it has the path":         {"ready, ready", has, models.Route{Primary: "qwen", Fallback: "cloud"}, "qwen cloud", "", "", 0, ""},
		"a fallback":              {"ready, ready", lacks, models.Route{Primary: "qwen", Fallback: "cloud"}, "cloud", "", backend.Unsupported, 0, ""},
		"loading":                 {"loading, ready", lacks, models.Route{Primary: "qwen", Fallback: "cloud"}, "cloud", "", backend.Unsupported, 0, ""},
		"no fallback":             {"ready, ready", lacks, models.Route{Primary: "qwen"}, "", "", backend.Unsupported, 501, "qwen runs engine, which has no /v1/images/generations; the route m has no fallback"},
		"loading, no fallback":    {"loading, ready", lacks, models.Route{Primary: "qwen"}, "", "", backend.Unsupported, 501, "has no /v1/images"},
		"a local fallback":        {"ready, ready", lacks, models.Route{Primary: "qwen", Fallback: "mini"}, "", "", backend.Unsupported, 501, "has no /v1/images"},
		"the fallback lacks key":  {"ready, ready", lacks, models.Route{Primary: "qwen", Fallback: "keyless"}, "", "", backend.Unsupported, 501, "set KEY"},
		"fallback_on":             {"ready, ready", lacks, models.Route{Primary: "qwen", Fallback: "cloud", FallbackOn: "timeout"}, "", "", backend.Unsupported, 501, "fallback_on does not list unsupported"},
		"an upstream first":       {"loading, ready", lacks, models.Route{Primary: "cloud", Fallback: "qwen"}, "cloud", "", "", 0, ""},
		"upstreams":               {"ready, ready", lacks, models.Route{Primary: "cloud"}, "cloud", "", "", 0, ""},
		"any engine":              {"any engine, ready", lacks, models.Route{Primary: "qwen", Fallback: "cloud"}, "qwen cloud", "", "", 0, ""},
		"any engine, as fallback": {"ready, any engine", lacks, models.Route{Primary: "qwen", Fallback: "mini"}, "mini", "", backend.Unsupported, 0, ""},
		"that is not loaded":      {"ready, any engine unloaded", lacks, models.Route{Primary: "qwen", Fallback: "mini"}, "mini", "mini", backend.Unsupported, 0, ""},
		"nor its primary":         {"loading, any engine unloaded", lacks, models.Route{Primary: "qwen", Fallback: "mini"}, "mini", "mini", backend.Unsupported, 0, ""},
		"its own path":            {"ready, ready", own, models.Route{Primary: "qwen"}, "qwen", "", "", 0, ""},
		"not any engine's":        {"any engine, ready", own, models.Route{Primary: "qwen", Fallback: "cloud"}, "", "", backend.Unsupported, 400, "qwen runs whisper-server, which has no /tokenize, and /tokenize needs a local llama-server"},
		"not loaded":              {"any engine unloaded, ready", own, models.Route{Primary: "qwen"}, "", "", backend.Unsupported, 400, "which has no /tokenize"},
		"a fallback's own":        {"any engine, ready", own, models.Route{Primary: "qwen", Fallback: "mini"}, "mini", "", backend.Unsupported, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			qwen, mini, _ := strings.Cut(tc.states, ", ")
			p := newRouting(t, qwen, mini, map[string]models.Route{"m": tc.route}).PlanFor(nil, "m", tc.path)
			if tc.path == own {
				p.RequireLocal(own)
			}
			if waits, _, _ := strings.Cut(p.WaitFor, " "); names(p) != tc.want || p.Reason != tc.reason || waits != tc.waits {
				t.Errorf("%q (%s, waits for %q), want %q (%s, %q)", names(p), p.Reason, p.WaitFor, tc.want, tc.reason, tc.waits)
			}
			if p.Rejection.Status != tc.status || !strings.Contains(p.Rejection.Message, tc.error) || tc.status != 0 && p.Rejection.RetryHelps() {
				t.Errorf("%+v, want %d %q", p.Rejection, tc.status, tc.error)
			}
		})
	}
}
