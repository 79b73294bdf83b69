package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// TestFleetContext: a prompt that exceeds the context of one box's model is answered by the box whose
// context is large enough, and the boxes whose context is not larger than the first one's are not
// asked. If none is large enough, it goes to the cloud; without a fallback, the client gets the error
// of the largest context.
func TestFleetContext(t *testing.T) {
	t.Parallel()
	nats, cloud := fleettest.Start(t), newRecordingUpstream(t)
	const routes = `
routes:
  local/cloud: {primary: demo, fallback: free, fallback_model: x}
  local/alone: {primary: demo}
upstreams:
  free: {base_url: %q}
servers:
  demo: {model: %s, ctx_size: %d, args: [-np, "1"]}
`
	box := func(name string, context int) *instance {
		return launchBox(t, nats.URL, name, fmt.Sprintf(routes, cloud.URL+"/v1", demoModel(t), context))
	}
	one, two, three := box("gpu1", 2048), box("gpu2", 2048), box("gpu3", 6144)
	for _, in := range []*instance{one, two, three} {
		in.awaitReady()
	}
	contexts := map[string]int64{}
	if !eventually(testTimeout, func() bool {
		known, err := one.client.Boxes(t.Context())
		for _, b := range known.Boxes {
			if len(b.Models) == 1 && b.Models[0].State == "ready" && b.Models[0].ContextLength != nil {
				contexts[b.Name] = int64(*b.Models[0].ContextLength)
			}
		}
		_, route := one.run("route", "local/demo")
		return err == nil && len(contexts) == 3 && strings.Contains(route, "gpu2/demo") && strings.Contains(route, "gpu3/demo")
	}) {
		t.Fatalf("gpu1 knows of the contexts %v", contexts)
	}
	for name, in := range map[string]*instance{"gpu1": one, "gpu2": two, "gpu3": three} {
		if listed := gjson.Get(in.get("/v1/models/local%2Fdemo"), "context_length").Int(); listed == 0 || contexts[name] != listed {
			t.Errorf("%s announces a context of %d tokens, and lists %d", name, contexts[name], listed)
		}
	}
	prompt := func(tokens int, model string) reply {
		return one.post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"max_tokens":3,"messages":[{"role":"user","content":%q}]}`, model, strings.Repeat("x", tokens)))
	}
	for model, tc := range map[string]struct {
		tokens  int
		status  int
		backend string
		reason  string
	}{
		"local/demo":  {3000, 200, "gpu3/demo", "context_overflow"},
		"local/cloud": {7000, 200, "free", "context_overflow"},
		"local/alone": {7000, 400, "gpu3/demo", ""},
	} {
		r := prompt(tc.tokens, model)
		if r.status != tc.status || r.backend() != tc.backend || r.header.Get("X-Llmsup-Reason") != tc.reason {
			t.Errorf("%s: %d from %q (%s): %s", model, r.status, r.backend(), r.header.Get("X-Llmsup-Reason"), r.body)
		}
		if detail := one.detailOf(r.header.Get("X-Request-Id")); strings.Contains(detail, "gpu2/demo answered") || tc.tokens == 7000 && !strings.Contains(detail, "gpu2/demo was skipped: its context has 2048 tokens") {
			t.Errorf("%s: the log says %q", model, detail)
		}
		if tc.status == 400 && (gjson.Get(r.body, "error.n_ctx").Int() != contexts["gpu3"] || strings.Contains(r.body, "2048") || r.header.Get("x-should-retry") != "false") {
			t.Errorf("%s: %v %s", model, r.header, r.body)
		}
	}
}

// detailOf returns the detail of a call in the log.
func (in *instance) detailOf(id string) string {
	in.t.Helper()
	var detail string
	if !eventually(testTimeout, func() bool {
		for line := range strings.Lines(in.logged()) {
			if e := gjson.Parse(line); e.Get("message").Str == "call" && e.Get("request_id").Str == id {
				detail = e.Get("detail").Str
				return true
			}
		}
		return false
	}) {
		in.t.Fatalf("the log has no call %s", id)
	}
	return detail
}
