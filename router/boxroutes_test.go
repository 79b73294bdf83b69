package router

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/boxes"
)

// TestServerOfOtherBox: local/SERVER is a model of each box of the fleet, also of one whose
// configuration does not name the server.
func TestServerOfOtherBox(t *testing.T) {
	f := newFleet(t, answers, hangs, answers)
	const body = `{"model":"local/solo","messages":[{"role":"user","content":"count"}]}`
	list := func() string {
		return f.send(http.MethodGet, "/v1/models", "").body
	}
	if r := f.post("/v1/chat/completions", body); r.status != 404 || strings.Contains(list(), "local/solo") {
		t.Errorf("no box has it: %d: %s", r.status, r.body)
	}
	ready := boxes.PeerState{Status: "ready", Slots: 4, Free: 4, Context: 4096, Abilities: []models.Ability{models.Chat}}
	f.ready.Boxes[0].Servers = map[string]boxes.PeerState{"solo": ready, "openrouter": ready}
	f.boxes.Set(f.ready)
	if r := f.post("/v1/chat/completions", body); r.status != 200 || r.backend() != "box2/solo" || r.reason() != "" {
		t.Errorf("%d from %q, reason %q: %s", r.status, r.backend(), r.reason(), r.body)
	}
	if r := f.chat("local/solos", false); r.status != 404 || !strings.Contains(r.body, ", local/solo") {
		t.Errorf("a typing error: %d: %s", r.status, r.body)
	}
	if r := f.chat("local/openrouter", false); r.status != 404 || len(f.cloud.requests()) > 0 {
		t.Errorf("the server has the name of an upstream: %d from %q: %s", r.status, r.backend(), r.body)
	}
	if all := list(); strings.Count(all, `"id":"local/solo"`) != 1 || strings.Contains(all, "local/openrouter") || strings.Count(all, `"id":"local/qwen"`) != 1 {
		t.Errorf("the models are %s", all)
	}
	shown := gjson.Parse(f.send(http.MethodGet, "/v1/models/local%2Fsolo", "").body)
	if shown.Get("context_length").Int() != 4096 || shown.Get("capabilities").Raw != `["chat"]` || shown.Get("status").Str != "ready" || shown.Get("owned_by").Str != "solo" {
		t.Errorf("the model is %s", shown.Raw)
	}
	f.boxes.Set(boxes.Fleet{Name: "box1"})
	if r := f.post("/v1/chat/completions", body); r.status != 503 || r.header.Get("Retry-After") == "" || r.header.Get("X-Should-Retry") == "false" {
		t.Errorf("its box is gone: %d, %v: %s", r.status, r.header, r.body)
	}
	f.boxes.Set(boxes.Fleet{})
	if r := f.post("/v1/chat/completions", body); r.status != 404 {
		t.Errorf("this box is in no fleet: %d: %s", r.status, r.body)
	}
}
