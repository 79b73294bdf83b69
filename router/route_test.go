package router

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

func TestLocalAnswersFirst(t *testing.T) {
	b := newFixture(t, answers, answers)
	r := b.chat("local/qwen", false)
	if r.status != 200 || r.body != wholeChat || r.backend() != "qwen" || r.reason() != "" {
		t.Errorf("got %d %q from %q (%s)", r.status, r.body, r.backend(), r.reason())
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
	got := b.local.requests()[0]
	if model := gjson.GetBytes(got.body, "model").Str; model != "qwen" {
		t.Errorf("local was asked for %q, want its own name", model)
	}
	if auth := got.header.Get("Authorization"); auth != "Bearer "+localKey {
		t.Errorf("local got Authorization %q", auth)
	}
}

func TestPremiumSkipsLocal(t *testing.T) {
	for model, want := range map[string]string{
		"gpt-4o":                      "openai/gpt-4o",
		"anthropic/claude-3.5-sonnet": "anthropic/claude-3.5-sonnet",
	} {
		b := newFixture(t, answers, answers)
		r := b.chat(model, false)
		if r.status != 200 || r.backend() != "openrouter" || r.reason() != "" {
			t.Errorf("%s: %d from %q (%s)", model, r.status, r.backend(), r.reason())
		}
		if n := len(b.local.requests()); n != 0 {
			t.Errorf("%s: local was asked %d times", model, n)
		}
		got := b.cloud.requests()[0]
		if got.path != "/api/v1/chat/completions" {
			t.Errorf("%s: path %s", model, got.path)
		}
		if asked := gjson.GetBytes(got.body, "model").Str; asked != want {
			t.Errorf("%s: the cloud was asked for %q, want %q", model, asked, want)
		}
	}
}

func TestUnavailablePrimaryIsSkipped(t *testing.T) {
	for _, reason := range []backend.Reason{backend.Starting, backend.Loading, backend.Restarting, backend.Draining, backend.Drained, backend.Degraded, backend.Failed} {
		t.Run(string(reason), func(t *testing.T) {
			b := newFixture(t, answers, answers)
			b.state.edit(func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Alive = reason, "is "+string(reason), reason == backend.Degraded
			})
			r := b.chat("local/qwen", false)
			if r.status != 200 || r.backend() != "openrouter" || r.reason() != string(reason) {
				t.Errorf("with a fallback: %d from %q (%s)", r.status, r.backend(), r.reason())
			}
			if asked := gjson.GetBytes(b.cloud.requests()[0].body, "model").Str; asked != "qwen/qwen-2.5-14b-instruct" {
				t.Errorf("the fallback was asked for %q", asked)
			}
			r = b.chat("local/alone", false)
			if reason == backend.Degraded {
				if r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
					t.Errorf("degraded, without a fallback: %d from %q (%s); it has to be used", r.status, r.backend(), r.reason())
				}
				return
			}
			if r.status != 503 || r.header.Get("Retry-After") == "" || gjson.Get(r.body, "error.code").Str != string(reason) {
				t.Errorf("without a fallback: %d %s", r.status, r.body)
			}
			if len(b.local.requests()) != 0 {
				t.Error("local was asked all the same")
			}
		})
	}
}

func TestMissingUpstreamKey(t *testing.T) {
	noKey := func(c *plan.Config, _ map[string]models.Route) {
		c.Upstreams[0].Key, c.Upstreams[0].Missing = "", "set OPENROUTER_API_KEY"
	}
	b := newFixture(t, answers, answers, noKey)
	if r := b.chat("gpt-4o", false); r.status != 503 || !strings.Contains(r.body, "set OPENROUTER_API_KEY") || gjson.Get(r.body, "error.code").Str != wire.CodeNoKey {
		t.Errorf("premium: %d %s", r.status, r.body)
	}
	if r := b.chat("local/qwen", false); r.status != 200 || r.backend() != "qwen" {
		t.Errorf("local: %d from %q", r.status, r.backend())
	}
	b.state.edit(func(s *backend.LocalState) {
		s.Reason, s.Detail, s.Alive = backend.Restarting, "is restarting: exit status 1", false
	})
	r := b.chat("local/qwen", false)
	if r.status != 503 || !strings.Contains(r.body, "qwen is restarting: exit status 1") || !strings.Contains(r.body, "set OPENROUTER_API_KEY") {
		t.Errorf("local restarting: %d %s", r.status, r.body)
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the cloud was called %d times without a key", n)
	}
}

func TestUnknownModel(t *testing.T) {
	b := newFixture(t, answers, answers)
	for _, model := range []string{"nonsense", "local/unknown"} {
		r := b.chat(model, false)
		e := gjson.Get(r.body, "error")
		if r.status != 404 || e.Get("code").Str != "model_not_found" || e.Get("type").Str != "invalid_request_error" {
			t.Errorf("%s: %d %s", model, r.status, r.body)
		}
		for _, name := range []string{"local/qwen", "gpt-4o", "*/*"} {
			if !strings.Contains(e.Get("message").Str, name) {
				t.Errorf("%s: the message does not list %s: %s", model, name, e.Get("message").Str)
			}
		}
	}
	if !gjson.Get(b.chat("nonsense", false).body, "error.param").Exists() {
		t.Error(`OpenAI's envelope has "param"`)
	}
	r := b.post("/v1/messages", `{"model":"nonsense"}`)
	if gjson.Get(r.body, "type").Str != "error" || gjson.Get(r.body, "error.type").Str != "not_found_error" {
		t.Errorf("on /v1/messages: %s, want Anthropic's form", r.body)
	}
}

func TestBadRequests(t *testing.T) {
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Bodies.Bytes = 1000 })
	for name, tc := range map[string]struct {
		body   string
		status int
		words  string
	}{
		"not JSON":   {`hello`, 400, "not valid JSON"},
		"no object":  {`[1]`, 400, "JSON object"},
		"no name":    {`{"model":4,"messages":[]}`, 400, `\"model\" must be a string`},
		"two models": {`{"model":"local","model":"gpt-4o"}`, 400, `two \"model\" keys`},
		"too large":  {`{"model":"local","x":"` + strings.Repeat("x", 1000) + `"}`, 413, "max_body"},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.post("/v1/chat/completions", tc.body)
			if r.status != tc.status || !strings.Contains(r.body, tc.words) || !gjson.Valid(r.body) {
				t.Errorf("%d %s, want %d with %s", r.status, r.body, tc.status, tc.words)
			}
		})
	}
	if n := len(b.local.requests()) + len(b.cloud.requests()); n != 0 {
		t.Errorf("backends were called %d times", n)
	}
	if r := b.post("/v1/chat/completions", "x", "Content-Encoding", "gzip"); r.status != 415 {
		t.Errorf("a compressed body: %d", r.status)
	}
	resp, err := http.Get(b.url + "/v1/chat/completions")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
	}
}

// TestBodyArrivesByteForByte sends what parsers may change.
func TestBodyArrivesByteForByte(t *testing.T) {
	image := make([]byte, 15<<20)
	_, _ = rand.Read(image)
	const model = `"local/qwen"`
	body := "{\n\t\"zeta\": 1e400, \"model\" :" + model + `, "zeta": -0.0E-7, "\u00fcber":"\ud800 \/ é", "messages":[{"role":"user","content":[` +
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,` + base64.StdEncoding.EncodeToString(image) + `"}}]}], "unknown":{"model":"x"} }` + "\n"
	if len(body) < 20<<20 {
		t.Fatalf("the body has %d bytes only", len(body))
	}
	b := newFixture(t, status(500, "{}"), answers)
	if r := b.post("/v1/chat/completions", body); r.status != 200 || r.backend() != "openrouter" {
		t.Fatalf("%d from %q", r.status, r.backend())
	}
	for who, p := range map[string]struct {
		peer  *fakeBackend
		model string
	}{"local": {b.local, `"qwen"`}, "the cloud": {b.cloud, `"qwen/qwen-2.5-14b-instruct"`}} {
		if want := strings.Replace(body, model, p.model, 1); string(p.peer.lastBody()) != want {
			t.Errorf("%s got another body: %d bytes, want %d", who, len(p.peer.lastBody()), len(want))
		}
	}
}

func TestHeadersToBackends(t *testing.T) {
	b := newFixture(t, status(500, "{}"), answers)
	b.post("/v1/chat/completions?key=client-secret", `{"model":"local/qwen"}`,
		"Authorization", "Bearer client-secret", "X-Api-Key", "client-secret", "Api-Key", "client-secret", "Cookie", "s=client-secret",
		"X-Conversation-Id", "c1", "X-Internal", "client-secret", "Openai-Organization", "org-1", "X-Forwarded-For", "10.0.0.1",
		"Proxy-Authorization", "Basic client-secret", "Connection", "Traceparent, close", "Traceparent", "00-client-secret-00-00", "Te", "trailers",
		"Accept-Encoding", "br", "X-Title", "app", "Http-Referer", "https://app.example", "User-Agent", "sdk/1")
	for who, p := range map[string]*fakeBackend{"local": b.local, "the cloud": b.cloud} {
		h := p.requests()[0].header
		if query := p.requests()[0].query; query != "" {
			t.Errorf("%s sees the client's query %q", who, query)
		}
		for name, values := range h {
			if strings.Contains(strings.Join(values, ""), "client-secret") {
				t.Errorf("%s sees the client's %s", who, name)
			}
		}
		for _, name := range []string{"X-Conversation-Id", "Openai-Organization", "X-Forwarded-For", "Te", "Proxy-Authorization"} {
			if h.Get(name) != "" {
				t.Errorf("%s sees %s", who, name)
			}
		}
		if h.Get("X-Title") != "app" || h.Get("User-Agent") != "sdk/1" {
			t.Errorf("%s: X-Title %q, User-Agent %q", who, h.Get("X-Title"), h.Get("User-Agent"))
		}
	}
	if auth := b.cloud.requests()[0].header.Get("Authorization"); auth != "Bearer "+cloudKey {
		t.Errorf("the cloud got Authorization %q", auth)
	}
	if strings.Contains(b.log.String(), "secret") {
		t.Errorf("a secret is in the log: %s", b.log)
	}
}

func TestAnswerHeaders(t *testing.T) {
	b := newFixture(t, status(200, wholeChat, "Server", "llama.cpp", "Access-Control-Allow-Origin", "*", "X-Llmsup-Backend", "other",
		"Set-Cookie", "a=b", "Alt-Svc", "h3", "Keep-Alive", "timeout=5", "Connection", "X-Hop", "X-Hop", "1", "X-Ratelimit", "9"), answers)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen"}`, "X-Request-Id", "my-id.7")
	for name, want := range map[string]string{
		"Server": "", "Access-Control-Allow-Origin": "", "X-Llmsup-Backend": "qwen", "Keep-Alive": "", "X-Hop": "", "Set-Cookie": "", "Alt-Svc": "",
		"X-Ratelimit": "9", "X-Request-Id": "my-id.7", "Content-Type": "application/json",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, bad := range []string{"", "a b", strings.Repeat("x", 129), "<script>"} {
		if got := b.post("/v1/chat/completions", `{"model":"local/qwen"}`, "X-Request-Id", bad).header.Get("X-Request-Id"); got == bad || len(got) < 20 {
			t.Errorf("request id %q became %q", bad, got)
		}
	}
}

func TestModels(t *testing.T) {
	b := newFixture(t, answers, answers)
	get := func(path string) (int, string) {
		resp, err := http.Get(b.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var raw json.RawMessage
		_ = json.NewDecoder(resp.Body).Decode(&raw)
		return resp.StatusCode, string(raw)
	}
	_, list := get("/v1/models")
	if got := gjson.Get(list, "data.#.id").String(); got != `["gpt-4o","local","local/alone","local/qwen"]` {
		t.Errorf("models: %s", got)
	}
	for path, want := range map[string]int{
		"/v1/models/gpt-4o": 200, "/v1/models/local/qwen": 200, "/v1/models/local%2Fqwen": 200,
		"/v1/models/vendor/model": 200, "/v1/models/nonsense": 404, "/nonsense": 404,
	} {
		if got, body := get(path); got != want {
			t.Errorf("%s: %d %s, want %d", path, got, body, want)
		}
	}
	if _, one := get("/v1/models/local%2Fqwen"); gjson.Get(one, "id").Str != "local/qwen" || gjson.Get(one, "owned_by").Str != "qwen" {
		t.Errorf("one model: %s", one)
	}
}

func TestHealth(t *testing.T) {
	health := func(b *fixture) (int, string) {
		resp, err := http.Get(b.url + "/health")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body struct{ Status string }
		_ = json.NewDecoder(resp.Body).Decode(&body)
		return resp.StatusCode, body.Status
	}
	b := newFixture(t, answers, answers)
	if code, words := health(b); code != 200 || words != "ok" {
		t.Errorf("all well: %d %s", code, words)
	}
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Alive = backend.Failed, false })
	if code, words := health(b); code != 200 || words != "partial" {
		t.Errorf("local failed, the cloud there: %d %s", code, words)
	}
	b = newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) {
		c.Upstreams[0].Key, c.Upstreams[0].Missing = "", "set OPENROUTER_API_KEY"
	})
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Alive = backend.Loading, false })
	if code, words := health(b); code != 503 || words != "unavailable" {
		t.Errorf("no usable backend: %d %s", code, words)
	}
}

func TestLocalEndpoints(t *testing.T) {
	b := newFixture(t, status(200, `{"tokens":[1]}`), answers)
	for _, body := range []string{`{"content":"x"}`, `{"content":"x","model":"local/alone"}`} {
		r := b.post("/tokenize", body)
		if r.status != 200 || r.backend() != "qwen" || r.body != `{"tokens":[1]}` {
			t.Errorf("%s: %d %s from %q", body, r.status, r.body, r.backend())
		}
	}
	if r := b.post("/tokenize", `{"content":"x","model":"gpt-4o"}`); r.status != 501 || gjson.Get(r.body, "error.code").Str != "unsupported" {
		t.Errorf("a premium model: %d %s", r.status, r.body)
	}
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Loading, "is loading", false })
	if r := b.post("/tokenize", `{"content":"x","model":"local/qwen"}`); r.status != 503 || gjson.Get(r.body, "error.code").Str != "loading" {
		t.Errorf("local loading: %d %s", r.status, r.body)
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

func TestBaseURLAsPrimary(t *testing.T) {
	var direct *fakeBackend
	b := newFixture(t, answers, answers, func(_ *plan.Config, routes map[string]models.Route) {
		direct = newFakeBackend(t, answers)
		r := routes["local/alone"]
		r.Primary = direct.URL
		routes["box"] = r
	})
	r := b.post("/v1/chat/completions", `{"model":"box"}`, "Authorization", "Bearer client-secret")
	if r.status != 200 || r.backend() != strings.TrimPrefix(direct.URL, "http://") {
		t.Errorf("%d from %q", r.status, r.backend())
	}
	if got := direct.requests()[0]; got.path != "/v1/chat/completions" || got.header.Get("Authorization") != "" {
		t.Errorf("it was asked at %s, with Authorization %q", got.path, got.header.Get("Authorization"))
	}
}

func TestExplainMatchesCalls(t *testing.T) {
	b := newFixture(t, answers, answers)
	for _, model := range []string{"local/qwen", "local/alone", "gpt-4o", "v/m", "nonsense"} {
		e, r := b.router.Explain(model), b.chat(model, false)
		if e.Backend != r.backend() || string(e.Reason) != r.reason() || e.RejectedStatus != 0 && e.RejectedStatus != r.status {
			t.Errorf("%s: explained %+v, did %q (%s) %d", model, e, r.backend(), r.reason(), r.status)
		}
	}
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Loading, "is loading", false })
	if e := b.router.Explain("local/qwen"); e.Backend != "openrouter" || e.Reason != backend.Loading || e.Detail != "qwen is loading" {
		t.Errorf("while loading: %+v", e)
	} else if e.Timeout.Minutes() != 2 { // of a fallback
		t.Errorf("while loading it goes to %s for %s", e.Backend, e.Timeout)
	}
}
