package router

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

// withEdits gives the route local/qwen edits, and its fallback others.
func withEdits(route, fallback *models.Edits) func(*plan.Config, map[string]models.Route) {
	return func(_ *plan.Config, routes map[string]models.Route) {
		r := routes["local/qwen"]
		r.Fallbacks, r.Edits = []models.Fallback{{To: r.Fallback, Model: r.FallbackModel, Edits: fallback}}, route
		r.Fallback, r.FallbackModel = "", ""
		routes["local/qwen"] = r
	}
}

// TestEditedCall: each backend gets the call with its edits, byte for byte.
func TestEditedCall(t *testing.T) {
	edits := &models.Edits{
		Set: models.Parameters{"temperature": "0.20"}, Force: models.Parameters{"top_k": "40"}, Strip: []string{"user"},
	}
	b := newFixture(t, status(500, `{"error":{"message":"no"}}`), answers, withEdits(edits, &models.Edits{Force: models.Parameters{"seed": "1e400"}}))
	r := b.post("/v1/chat/completions", `{"model": "local/qwen", "user": "u", "top_k":1,"messages": [ ] }`)
	if r.status != 200 || r.backend() != "openrouter" {
		t.Fatalf("%d from %q: %s", r.status, r.backend(), r.body)
	}
	for name, tc := range map[string]struct {
		backend *fakeBackend
		want    string
	}{
		"local": {b.local, `{"top_k":40,"temperature":0.20,"model": "qwen","messages": [ ] }`},
		"cloud": {b.cloud, `{"seed":1e400,"temperature":0.20,"model": "qwen/qwen-2.5-14b-instruct","top_k":1,"messages": [ ] }`},
	} {
		if got := string(tc.backend.lastBody()); got != tc.want {
			t.Errorf("%s got %s\nwant      %s", name, got, tc.want)
		}
	}
	e := b.router.Explain("local/qwen")
	if len(e.Next) != 1 || e.Edits == nil || e.Edits.Force["top_k"] != "40" || e.Next[0].Force["seed"] != "1e400" || e.Next[0].Set["temperature"] != "0.20" {
		t.Errorf("explained as %+v", e)
	}
}

// TestNotEdited: a form and a setting of the server reach it as they are.
func TestNotEdited(t *testing.T) {
	b := newFixture(t, answers, answers, withEdits(&models.Edits{Force: models.Parameters{"language": `"en"`}}, nil), func(_ *plan.Config, routes map[string]models.Route) {
		routes["local"] = routes["local/qwen"]
	})
	const setting = `{"language":"de"}`
	if r := b.post("/props", setting); r.status != 200 || string(b.local.lastBody()) != setting {
		t.Errorf("%d %s, got %s", r.status, r.body, b.local.lastBody())
	}
	const form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nlocal/qwen\r\n--b--\r\n"
	r := b.post("/v1/audio/transcriptions", form, "Content-Type", "multipart/form-data; boundary=b")
	if got := string(b.local.lastBody()); r.status != 200 || got != strings.Replace(form, "local/qwen", "qwen", 1) {
		t.Errorf("%d, %s", r.status, got)
	}
}

// TestEditedChoices: how many choices a stream has to finish is in the edited call.
func TestEditedChoices(t *testing.T) {
	b := newFixture(t, sends(ends, textEvent, finalEvent), answers, withEdits(&models.Edits{Force: models.Parameters{"n": "1"}}, nil))
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"n":2,"messages":[]}`)
	if r.readErr != nil || r.body != textEvent+finalEvent {
		t.Errorf("%v %q", r.readErr, r.body)
	}
}

// TestEditedResumption: the continuation of a stream has the edits for the backend that
// continues it, and what is left of the limit there.
func TestEditedResumption(t *testing.T) {
	limit := func(n models.JSON) *models.Edits { return &models.Edits{Force: models.Parameters{"max_tokens": n}} }
	for name, tc := range map[string]struct {
		route, fallback *models.Edits
		left            int64 // 0 = the answer has reached its limit
	}{
		"the route's limit":      {limit("50"), nil, 48},
		"the fallback's limit":   {limit("50"), limit("20"), 18},
		"the limit is reached":   {limit("2"), limit("20"), 0},
		"without a local limit":  {&models.Edits{Strip: []string{"max_tokens"}}, &models.Edits{Strip: []string{}}, 98},
		"only a default of both": {&models.Edits{Set: models.Parameters{"max_tokens": "30"}}, nil, 98},
	} {
		b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1, of a list that is long enough,"), textChunk(" 2")),
			sends(ends, roleEvent, strings.Replace(textChunk(" 3"), "chatcmpl-1", "gen-9", 1), finishChunk("stop"), doneEvent), withEdits(tc.route, tc.fallback), withResume)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
		streamText(t, r.body)
		if tc.left == 0 {
			if len(b.cloud.requests()) != 0 || !strings.Contains(r.body, `"finish_reason":"length"`) {
				t.Errorf("%s: %s", name, r.body)
			}
			continue
		}
		if got := gjson.GetBytes(b.cloud.lastBody(), "max_tokens").Int(); got != tc.left {
			t.Errorf("%s: %d tokens are left, want %d", name, got, tc.left)
		}
	}
}

// TestEditedReservation: a budget reserves for the edited call.
func TestEditedReservation(t *testing.T) {
	for limit, want := range map[string]int{"10": 200, "100000": 429} {
		edit, acct := withLedger(t, accountingtest.Daily("10"))
		b := newFixture(t, answers, status(200, chatWithUsage(`"prompt_tokens":1,"completion_tokens":1`)), edit, func(_ *plan.Config, routes map[string]models.Route) {
			r := routes["gpt-4o"]
			r.Edits = &models.Edits{Force: models.Parameters{"max_tokens": models.JSON(limit)}}
			routes["gpt-4o"] = r
		})
		if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","max_tokens":1000}`); r.status != want {
			t.Errorf("limit %s: %d %s", limit, r.status, r.body)
		}
		b.waitIdle()
		if got := usageBy(t, acct, ledger.ByRoute).Groups; len(got) != 1 || got[0].Name != "gpt-4o" {
			t.Errorf("limit %s: in the ledger is %+v", limit, got)
		}
	}
}

// TestEditsAtLlamaServer: a real llama-server counts as far as the edited call says, whatever
// the client says, in each dialect, with and without a stream.
func TestEditsAtLlamaServer(t *testing.T) {
	b := newEngineFixture(t, startEngine(t), withEdits(&models.Edits{
		Force: models.Parameters{"max_tokens": "3", "max_output_tokens": "3"}, Set: models.Parameters{"ignore_eos": "true"}, Strip: []string{"max_completion_tokens", "n_predict", "stop"},
	}, nil))
	const messages = `"messages":[{"role":"user","content":" 1"}]`
	for name, tc := range map[string]struct{ path, body, tokens string }{
		"chat":                 {"/v1/chat/completions", messages, "usage.completion_tokens"},
		"chat, a higher limit": {"/v1/chat/completions", messages + `,"max_tokens":9,"max_completion_tokens":9,"\u006e_predict":9,"MAX_TOKENS":1`, "usage.completion_tokens"},
		"chat, stop strings":   {"/v1/chat/completions", messages + `,"stop":[" 2"]`, "usage.completion_tokens"},
		"completion":           {"/v1/completions", `"prompt":" 1","max_tokens":1,"max_tokens":2`, "usage.completion_tokens"},
		"message":              {"/v1/messages", messages + `,"max_tokens":9`, "usage.output_tokens"},
		"response":             {"/v1/responses", `"input":" 1"`, "usage.output_tokens"},
	} {
		r := b.post(tc.path, `{"model":"local/qwen",`+tc.body+`}`)
		if got := gjson.Get(r.body, tc.tokens).Int(); r.status != http.StatusOK || r.backend() != "qwen" || got != 3 {
			t.Errorf("%s: %d, %d tokens: %s", name, r.status, got, r.body)
		}
	}
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true},`+messages+`}`)
	if want := `"completion_tokens":3`; !strings.Contains(r.body, want) || !strings.HasSuffix(r.body, doneEvent) {
		t.Errorf("no %s in %s", want, r.body)
	}
}
