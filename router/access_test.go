package router

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
)

const (
	fullKey       = "llmsup-full-client-secret"
	localOnlyKey  = "llmsup-tool-client-secret"
	freeOnlyKey   = "llmsup-frugal-client-secret"
	allowedOrigin = "https://app.example:8443"
)

// withKeys gives a router three keys: an operator with all rights, one for local models,
// and one that may not spend money.
func withKeys(c *plan.Config, _ map[string]models.Route) {
	c.Access.Keys = []access.Key{
		{Name: "full", SHA256: sha256.Sum256([]byte(fullKey)), Operator: true},
		{Name: "tool", SHA256: sha256.Sum256([]byte(localOnlyKey)), Routes: []string{"local/*", "gpt-9"}},
		{Name: "frugal", SHA256: sha256.Sum256([]byte(freeOnlyKey)), FreeOnly: true},
	}
}

// send makes a request with any method and headers; "Host" is one of them.
func (b *fixture) send(method, path, body string, headers ...string) reply {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	answer := reply{resp.StatusCode, resp.Header, string(got), err}
	b.wantShouldRetry(path, answer)
	return answer
}

func errorCode(r reply) string { return gjson.Get(r.body, "error.code").Str }

func TestAuthentication(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys)
	const body = `{"model":"local/qwen"}`
	for name, tc := range map[string]struct {
		headers []string
		status  int
	}{
		"none":            {nil, 401},
		"wrong":           {[]string{"Authorization", "Bearer " + fullKey + "x"}, 401},
		"a hash":          {[]string{"Authorization", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(fullKey)))}, 401},
		"empty":           {[]string{"Authorization", "Bearer "}, 401},
		"another scheme":  {[]string{"Authorization", "Basic " + fullKey}, 401},
		"a query is none": {[]string{"Api-Key", fullKey}, 401},
		"bearer":          {[]string{"Authorization", "Bearer " + fullKey}, 200},
		"lower case":      {[]string{"Authorization", "bearer " + fullKey}, 200},
		"as Anthropic's":  {[]string{"X-Api-Key", fullKey}, 200},
		"behind a proxy":  {[]string{"Authorization", "Basic x", "X-Api-Key", fullKey}, 200},
		"another's":       {[]string{"Authorization", "Bearer " + localOnlyKey}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.send("POST", "/v1/chat/completions", body, tc.headers...)
			if r.status != tc.status {
				t.Errorf("%d %s", r.status, r.body)
			}
			if r.status == 401 && (errorCode(r) != "invalid_api_key" || r.header.Get("Www-Authenticate") != "Bearer" || r.header.Get("X-Request-Id") == "") {
				t.Errorf("%v %s", r.header, r.body)
			}
		})
	}
	r := b.send("POST", "/v1/messages", body)
	if r.status != 401 || gjson.Get(r.body, "type").Str != "error" || gjson.Get(r.body, "error.type").Str != "authentication_error" {
		t.Errorf("on /v1/messages: %d %s, want Anthropic's form", r.status, r.body)
	}
	for path, want := range map[string]int{"/health": 200, "/v1/models": 401, "/v1/models/local/qwen": 401, "/metrics": 401, "/nothing": 401, "//health": 401} {
		if r := b.send("GET", path, ""); r.status != want {
			t.Errorf("GET %s without a key: %d, want %d", path, r.status, want)
		}
		if r := b.send("GET", path, "", "Authorization", "Bearer "+localOnlyKey); r.status == 401 {
			t.Errorf("GET %s with a key: %d", path, r.status)
		}
	}
	if n := len(b.local.requests()); n != 5 {
		t.Errorf("local was asked %d times", n)
	}
	for _, p := range b.local.requests() {
		if strings.Contains(fmt.Sprint(p), "client-secret") {
			t.Errorf("a client's key was passed on: %v", p)
		}
	}
	log := b.log.String()
	if strings.Contains(log, "secret") || !strings.Contains(log, `"key":"full"`) || !strings.Contains(log, `"key":"tool"`) {
		t.Errorf("log: %s", log)
	}
	if r := b.send("GET", "/metrics", "", "X-Api-Key", fullKey); !strings.Contains(r.body, `llmsup_turned_away_total{code="invalid_api_key"}`) {
		t.Errorf("metrics: %s", r.body)
	}
}

// TestAwaitsKeys: a router that waits for keys takes no call, and a load balancer sends none.
func TestAwaitsKeys(t *testing.T) {
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Access.AwaitsKeys = true })
	r := b.send("POST", "/v1/chat/completions", `{"model":"local/qwen"}`, "X-Api-Key", fullKey)
	if r.status != 503 || errorCode(r) != "no_keys_yet" || r.header.Get("Retry-After") == "" || r.header.Get("Www-Authenticate") != "" {
		t.Errorf("a call: %d %v %s", r.status, r.header, r.body)
	}
	if r := b.send("GET", "/health", ""); r.status != 503 || gjson.Get(r.body, "status").Str != "unavailable" || gjson.Get(r.body, "backends").Exists() {
		t.Errorf("/health: %d %s", r.status, r.body)
	}
	if n := len(b.local.requests()); n != 0 {
		t.Errorf("local was asked %d times", n)
	}
}

// TestOperators: only an operator key may read the metrics, and without a key /health says
// only whether a route can be served.
func TestOperators(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Keys = append(c.Access.Keys, access.Key{Name: "scraper", SHA256: sha256.Sum256([]byte("scraper-secret")), Operator: true, Routes: []string{}})
	})
	for key, want := range map[string]int{"": 401, "wrong": 401, localOnlyKey: 403, freeOnlyKey: 403, fullKey: 200, "scraper-secret": 200} {
		for _, method := range []string{"GET", "HEAD"} {
			r := b.send(method, "/metrics", "", "X-Api-Key", key)
			if r.status != want || strings.Contains(r.body, "llmsup_calls") != (want == 200 && method == "GET") {
				t.Errorf("%s /metrics with %q: %d, want %d", method, key, r.status, want)
			}
			if r.status == 403 && method == "GET" && (errorCode(r) != "operator_required" || !strings.Contains(r.body, "operator: true")) {
				t.Errorf("%s", r.body)
			}
		}
	}
	if r := b.send("GET", "/metrics", "", "X-Api-Key", fullKey); !strings.Contains(r.body, `llmsup_turned_away_total{code="operator_required"} 4`) {
		t.Errorf("they are not counted: %s", r.body)
	}
	// No route is for a key whose list of routes is empty.
	if r := b.send("POST", "/v1/chat/completions", `{"model":"local/qwen"}`, "X-Api-Key", "scraper-secret"); r.status != 403 || errorCode(r) != "route_not_allowed" || !strings.Contains(r.body, "it may use no model") {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := b.send("GET", "/v1/models", "", "X-Api-Key", "scraper-secret"); gjson.Get(r.body, "data.#").Int() != 0 {
		t.Errorf("%s", r.body)
	}

	health := func(key string, status int, brief bool, word string) {
		t.Helper()
		r := b.send("GET", "/health", "", "X-Api-Key", key)
		want := fmt.Sprintf("{\"status\":%q}\n", word)
		if r.status != status || brief != (r.body == want) || !brief && (gjson.Get(r.body, "status").Str != word || !strings.Contains(r.body, "openrouter")) {
			t.Errorf("/health with %q: %d %s", key, r.status, r.body)
		}
	}
	for _, key := range []string{"", "wrong"} {
		health(key, 200, true, "ok")
	}
	health(localOnlyKey, 200, false, "ok")
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Alive = backend.Failed, false })
	health("", 200, true, "ok")
	health(localOnlyKey, 200, false, "partial")
	cut := newFixture(t, answers, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) {
		c.Upstreams[0].Key, c.Upstreams[0].Missing = "", "set IT"
	})
	cut.state.edit(func(s *backend.LocalState) { s.Reason, s.Alive = backend.Failed, false })
	b = cut
	health("", 503, true, "unavailable")
	health(fullKey, 503, false, "unavailable")
}

func TestKeyRoutes(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys)
	ask := func(key, model string) reply {
		return b.send("POST", "/v1/chat/completions", fmt.Sprintf(`{"model":%q}`, model), "Authorization", "Bearer "+key)
	}
	if r := ask(localOnlyKey, "local/qwen"); r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d %s", r.status, r.body)
	}
	for _, model := range []string{"gpt-4o", "local", "vendor/model"} {
		r := ask(localOnlyKey, model)
		if want := fmt.Sprintf("the key tool may not use the model %q; it may use local/*, gpt-9", model); r.status != 403 || errorCode(r) != "route_not_allowed" || gjson.Get(r.body, "error.message").Str != want {
			t.Errorf("%s: %d %s", model, r.status, r.body)
		}
	}
	if r := b.send("POST", "/v1/messages", `{"model":"gpt-4o"}`, "X-Api-Key", localOnlyKey); gjson.Get(r.body, "error.type").Str != "permission_error" {
		t.Errorf("on /v1/messages: %s", r.body)
	}
	if r := ask(localOnlyKey, "local/typo"); r.status != 404 || strings.Contains(r.body, "gpt-4o") || !strings.Contains(r.body, "local/alone, local/qwen") {
		t.Errorf("an unknown model: %d %s", r.status, r.body)
	}
	for key, want := range map[string]string{
		fullKey: `["gpt-4o","local","local/alone","local/qwen"]`, localOnlyKey: `["local/alone","local/qwen"]`, freeOnlyKey: `["local","local/alone","local/qwen"]`,
	} {
		r := b.send("GET", "/v1/models", "", "Authorization", "Bearer "+key)
		if got := gjson.Get(r.body, "data.#.id").String(); got != want {
			t.Errorf("models for %s: %s", key, got)
		}
	}
	for path, want := range map[string]int{"/v1/models/gpt-4o": 403, "/v1/models/local/qwen": 200, "/v1/models/nonsense": 404} {
		if r := b.send("GET", path, "", "X-Api-Key", localOnlyKey); r.status != want {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// TestFreeOnly: no call of a free_only key costs money, fallbacks included.
func TestFreeOnly(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys)
	ask := func(model string) reply {
		return b.send("POST", "/v1/chat/completions", fmt.Sprintf(`{"model":%q}`, model), "Authorization", "Bearer "+freeOnlyKey)
	}
	if r := ask("local/qwen"); r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := ask("gpt-4o"); r.status != 403 || errorCode(r) != "route_not_allowed" || !strings.Contains(r.body, "is free_only") {
		t.Errorf("premium: %d %s", r.status, r.body)
	}
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	if r := ask("local/qwen"); r.status != 200 || r.backend() != "qwen" {
		t.Errorf("degraded: %d %s", r.status, r.body)
	}
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Loading, "is loading", false })
	if r := ask("local/qwen"); r.status != 503 || errorCode(r) != "loading" || r.header.Get("Retry-After") == "" ||
		!strings.Contains(r.body, "qwen is loading; the key frugal is free_only, so openrouter was skipped") {
		t.Errorf("loading: %d %s", r.status, r.body)
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

func TestOrigin(t *testing.T) {
	b := newFixture(t, status(200, wholeChat, "Vary", "Accept"), answers, withKeys, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Origins = []string{allowedOrigin}
	})
	const path, body = "/v1/chat/completions", `{"model":"local/qwen"}`
	for _, origin := range []string{"https://evil.example", "http://app.example:8443", "https://app.example", "null", b.url} {
		r := b.send("POST", path, body, "Origin", origin, "X-Api-Key", fullKey)
		if r.status != 403 || errorCode(r) != "origin_not_allowed" || r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %s", origin, r.status, r.body)
		}
	}
	if r := b.send("GET", "/health", "", "Origin", "https://evil.example"); r.status != 403 {
		t.Errorf("/health: %d", r.status)
	}
	if n := len(b.local.requests()); n != 0 {
		t.Fatalf("local was asked %d times", n)
	}
	r := b.send("POST", path, body, "Origin", allowedOrigin, "X-Api-Key", fullKey)
	if h := r.header; r.status != 200 || h.Get("Access-Control-Allow-Origin") != allowedOrigin || strings.Join(h["Vary"], ", ") != "Origin, Accept" ||
		!strings.Contains(h.Get("Access-Control-Expose-Headers"), "X-Llmsup-Backend") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("allowed: %d %v", r.status, h)
	}
	if r := b.send("POST", path, body, "Origin", allowedOrigin); r.status != 401 || r.header.Get("Access-Control-Allow-Origin") != allowedOrigin {
		t.Errorf("a page has to be able to read why: %d %v", r.status, r.header)
	}
	ask := []string{"Origin", allowedOrigin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type,x-stainless-os"}
	r = b.send("OPTIONS", path, "", ask...)
	if h := r.header; r.status != 204 || h.Get("Access-Control-Allow-Headers") != ask[5] || h.Get("Access-Control-Allow-Methods") != "GET, POST" || h.Get("Access-Control-Allow-Origin") != allowedOrigin {
		t.Errorf("preflight: %d %v", r.status, h)
	}
	ask[1] = "https://evil.example"
	if r := b.send("OPTIONS", path, "", ask...); r.status != 403 || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight from elsewhere: %d %v", r.status, r.header)
	}
	all := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Access.Origins = []string{"*"} })
	if r := all.send("POST", path, body, "Origin", "null"); r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "null" {
		t.Errorf("all pages: %d %v", r.status, r.header)
	}
}

// TestBrowserCalls does what a browser does for a page's call: a preflight, and if that
// allows it, the call itself, whose answer the page may then read.
func TestBrowserCalls(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Origins = []string{"http://localhost:*", "https://*.example.com", "null"}
	})
	for origin, want := range map[string]bool{
		"http://localhost:5173": true, "http://localhost": true, "https://chat.example.com": true, "null": true,
		"https://example.com": false, "http://chat.example.com": false, "https://example.com.evil": false, "http://localhost.evil:1": false,
	} {
		const asked = "authorization, content-type"
		r := b.send("OPTIONS", "/v1/chat/completions", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", asked)
		h := r.header
		if may := r.status == 204 && h.Get("Access-Control-Allow-Origin") == origin && strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") && h.Get("Access-Control-Allow-Headers") == asked; may != want {
			t.Errorf("%s: preflight %d %v", origin, r.status, h)
		}
		r = b.send("POST", "/v1/chat/completions", `{"model":"local/qwen"}`, "Origin", origin, "Authorization", "Bearer "+fullKey, "Content-Type", "application/json")
		if may := r.status == 200 && r.header.Get("Access-Control-Allow-Origin") == origin && slices.Contains(r.header["Vary"], "Origin"); may != want {
			t.Errorf("%s: call %d %v", origin, r.status, r.header)
		}
		if !want && (r.status != 403 || !strings.Contains(r.body, origin) || !strings.Contains(r.body, "allowed_origins")) {
			t.Errorf("%s: %d %s", origin, r.status, r.body)
		}
	}
	if n := len(b.local.requests()); n != 4 {
		t.Errorf("local was asked %d times", n)
	}
}

// TestRejectedOriginInLog: the log says why a page's requests fail, preflights included,
// and the page cannot flood it.
func TestRejectedOriginInLog(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) { c.Access.Origins = []string{allowedOrigin} })
	for range 5 {
		b.send("OPTIONS", "/v1/chat/completions", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
		b.send("POST", "/v1/chat/completions", "{}", "Origin", "http://localhost:3000")
		b.send("GET", "/secret", "", "Origin", "https://a.example/\xe2\x80\xae\\n{\"level\":\"error\"}")
	}
	lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
	for i, want := range []struct{ origin, path string }{{"https://evil.example", "/v1/chat/completions"}, {"http://localhost:3000", "/v1/chat/completions"}, {"(not an origin)", ""}} {
		if len(lines) != 3 || gjson.Get(lines[i], "origin").Str != want.origin || gjson.Get(lines[i], "path").Str != want.path ||
			gjson.Get(lines[i], "code").Str != "origin_not_allowed" || !strings.Contains(lines[i], "allowed_origins in llmsup.yaml") {
			t.Fatalf("logged\n%s", b.log)
		}
	}
	if r := b.send("GET", "/metrics", "", "X-Api-Key", fullKey); !strings.Contains(r.body, `llmsup_turned_away_total{code="origin_not_allowed"} 15`) {
		t.Errorf("%s", r.body)
	}
}

func TestHost(t *testing.T) {
	loopback := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.CheckHost, c.Access.Hosts = true, []string{"llm.corp.example"}
	})
	network := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Access.CheckHost, c.Access.AnyIP = true, true })
	for host, want := range map[string][2]bool{"localhost:8000": {true, true}, "llm.corp.example:8000": {true, false}, "10.0.0.7:8000": {false, true}, "evil.example": {false, false}} {
		for i, b := range []*fixture{loopback, network} {
			r := b.send("GET", "/v1/models", "", "Host", host)
			if ok := r.status == 200; ok != want[i] || !ok && (r.status != 403 || errorCode(r) != "host_not_allowed") {
				t.Errorf("%s, network %t: %d %s", host, i == 1, r.status, r.body)
			}
		}
	}
}

// TestSlowBody: a client that sends its body too slowly receives 408, or 401 for a bad
// key, and its connection is closed. The limit ends with the body: the answer may take
// longer.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Second
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		outlast(limit)
		answers(w, r)
	}, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) { c.Access.BodyTimeout = limit })
	for key, want := range map[string]int{fullKey: 408, "none": 401} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(waitLimit))
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: 100\r\n\r\n{", key)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d %s, want %d", resp.StatusCode, body, want)
		}
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("the connection is still open: %v", err)
		}
	}
	for range 2 { // the second one comes over the same connection
		if r := b.send("POST", "/v1/chat/completions", `{"model":"local/qwen"}`, "X-Api-Key", fullKey); r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

func TestReloadOfKeys(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys)
	cfg := plan.Config{
		Table: b.router.routing.Load().Table, Locals: map[string]backend.Local{"qwen": b.state}, Bodies: request.Limits{Bytes: 1 << 20},
		Upstreams: []backend.UpstreamConfig{{Name: "openrouter", BaseURL: b.cloud.URL, Key: cloudKey}},
	}
	withKeys(&cfg, nil)
	cfg.Access.Keys = cfg.Access.Keys[1:]
	if err := b.router.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{fullKey: 401, localOnlyKey: 200} {
		if r := b.send("GET", "/v1/models", "", "X-Api-Key", key); r.status != want {
			t.Errorf("%s: %d, want %d", key, r.status, want)
		}
	}
}
