package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"
)

// newKeyEntry creates a key with llmsup key new, and returns it and its entry for "keys".
func newKeyEntry(t *testing.T, name, more string) (key, entry string) {
	t.Helper()
	code, out := runCommand(t, "key", "new", name)
	key, rest, ok := strings.Cut(out, "\n")
	hash := rest[strings.Index(rest, "sha256: ")+len("sha256: "):][:66]
	if code != 0 || !ok || !strings.HasPrefix(key, "llmsup-") || strings.Contains(rest, key) {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	return key, fmt.Sprintf("  %s: {sha256: %s%s}\n", name, hash, more)
}

// request makes a request. headers are names and values; "Host" is one of them.
func (in *instance) request(method, path, body string, headers ...string) reply {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.url+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := in.http.Do(req)
	if err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(answer), err}
}

// TestAccess runs llmsup on all interfaces, with keys, in front of the real
// llama-server.
func TestAccess(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	full, fullEntry := newKeyEntry(t, "full", "")
	tool, toolEntry := newKeyEntry(t, "tool", `, routes: ["local/*"]`)
	admin, adminEntry := newKeyEntry(t, "admin", ", operator: true, routes: []")
	head := fmt.Sprintf(`
listen: 0.0.0.0:0
allowed_origins: ["https://app.example"]
upstreams:
  openrouter: {base_url: %q, api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/demo: {primary: demo, fallback: openrouter, fallback_model: qwen/qwen-2.5-14b-instruct}
`, c.URL+"/api/v1")
	file := newTestConfig(t, head+"keys:\n"+fullEntry+toolEntry+adminEntry)
	in := launch(t, c.env(), "--listen", "0.0.0.0:0", "--demo", "--config", file.path, "--", "--threads", "1")
	in.awaitReady()

	chat := func(key, model string) (string, error) {
		client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
		got, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
			Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")}, MaxTokens: openai.Int(3),
		})
		if err != nil {
			return "", err
		}
		return got.Choices[0].Message.Content, nil
	}
	refused := func(err error, status int, code string) bool {
		var e *openai.Error
		return errors.As(err, &e) && e.StatusCode == status && e.Code == code
	}
	for _, call := range []struct{ key, model, want string }{{full, "local", " 1 2 3"}, {full, "gpt-4o", "from the cloud"}, {tool, "local/demo", " 1 2 3"}} {
		if text, err := chat(call.key, call.model); err != nil || text != call.want {
			t.Errorf("%s: %q, %v", call.model, text, err)
		}
	}
	if _, err := chat("wrong", "local"); !refused(err, 401, "invalid_api_key") {
		t.Errorf("a wrong key: %v", err)
	}
	if _, err := chat(tool, "gpt-4o"); !refused(err, 403, "route_not_allowed") {
		t.Errorf("a key for local models alone: %v", err)
	}
	client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey(tool))
	if r := in.request("GET", "/metrics", "", "X-Api-Key", full); r.status != 403 || gjson.Get(r.body, "error.code").Str != "operator_required" {
		t.Errorf("the metrics, for a key that is not an operator's: %+v", r)
	}
	if r := in.request("GET", "/metrics", "", "X-Api-Key", admin); r.status != 200 || !strings.Contains(r.body, "llmsup_cost_usd_total") {
		t.Errorf("the metrics, for an operator's: %+v", r)
	}
	if brief, whole := in.get("/health"), in.request("GET", "/health", "", "X-Api-Key", tool).body; brief != "{\"status\":\"ok\"}\n" || !strings.Contains(whole, "openrouter") {
		t.Errorf("health: %s, with a key %s", brief, whole)
	}
	page, err := client.Models.List(t.Context())
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != "local/demo" {
		t.Errorf("its models: %+v, %v", page, err)
	}
	for path, want := range map[string]int{"/health": 200, "/metrics": 401, "/v1/models": 401} {
		if r := in.request("GET", path, ""); r.status != want {
			t.Errorf("%s without a key: %d", path, r.status)
		}
	}
	if r := in.request("POST", "/v1/messages", `{"model":"local"}`); r.status != 401 || gjson.Get(r.body, "error.type").Str != "authentication_error" {
		t.Errorf("messages: %+v", r)
	}
	if r := in.request("GET", "/v1/models", "", "X-Api-Key", full, "Host", "behind.a.proxy"); r.status != 200 {
		t.Errorf("a client with a key may use any Host header: %+v", r)
	}
	if r := in.request("GET", "/v1/models", "", "X-Api-Key", full, "Origin", "https://evil.example"); r.status != 403 || gjson.Get(r.body, "error.code").Str != "origin_not_allowed" {
		t.Errorf("a page: %+v", r)
	}
	if r := in.request("OPTIONS", "/v1/models", "", "Origin", "https://app.example", "Access-Control-Request-Method", "GET"); r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("a preflight: %+v", r)
	}

	// After a reload, calls need the new keys.
	other, otherEntry := newKeyEntry(t, "other", "")
	file.write(head + "keys:\n" + otherEntry + toolEntry + adminEntry)
	if code, out := in.reload(); code != 0 || out != "key full: removed\nkey other: added\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if _, err := chat(full, "local"); !refused(err, 401, "invalid_api_key") {
		t.Errorf("a key that was taken out: %v", err)
	}
	if text, err := chat(other, "local"); err != nil || text != " 1 2 3" {
		t.Errorf("a new key: %q, %v", text, err)
	}
	file.write(head)
	if code, out := in.reload(); code != 1 || !strings.Contains(out, "there are no keys") || !strings.Contains(out, "the old configuration stays") {
		t.Errorf("without keys: exit %d:\n%s", code, out)
	}
	if _, err := chat(other, "local"); err != nil {
		t.Error(err)
	}

	// The real llama-server does not transcribe audio.
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	_ = w.WriteField("model", "local/demo")
	part, _ := w.CreateFormFile("file", "a.wav")
	_, _ = io.WriteString(part, "RIFF")
	_ = w.Close()
	r := in.request("POST", "/v1/audio/transcriptions", form.String(), "Content-Type", w.FormDataContentType(), "X-Api-Key", other)
	if r.status != 200 || r.backend() != "openrouter" || r.reason() != "unsupported" && r.reason() != "status" {
		t.Errorf("a form: %+v", r)
	}
	c.mu.Lock()
	last := string(c.bodies[len(c.bodies)-1])
	c.mu.Unlock()
	if want := strings.Replace(form.String(), "local/demo", "qwen/qwen-2.5-14b-instruct", 1); last != want {
		t.Errorf("the cloud got %q", last)
	}

	for _, auth := range c.auth {
		if auth != "Bearer "+cloudKey {
			t.Errorf("the cloud got Authorization %q", auth)
		}
	}
	in.stop() // its log is whole then
	log := in.logged()
	for _, secret := range []string{full, tool, other, admin, cloudKey} {
		if strings.Contains(log, secret) {
			t.Error("a key is in the log")
		}
	}
	if !strings.Contains(log, `"key":"tool"`) || strings.Contains(log, "spend your money") {
		t.Errorf("log: %s", log)
	}
}

// TestAccessWithoutKeys: on loopback the Host header is checked; elsewhere a warning is
// logged.
func TestAccessWithoutKeys(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	file := newTestConfig(t, fmt.Sprintf("allowed_hosts: [llm.example]\nupstreams:\n  openrouter: {base_url: %q}\n", c.URL))
	in := launch(t, nil, "--config", file.path)
	for host, want := range map[string]int{"localhost:8000": 200, "[::1]:1": 200, "llm.example": 200, "evil.example": 403, "10.0.0.1": 403} {
		r := in.request("POST", "/v1/chat/completions", `{"model":"gpt-4o"}`, "Host", host)
		if r.status != want || want == 403 && gjson.Get(r.body, "error.code").Str != "host_not_allowed" {
			t.Errorf("%s: %+v", host, r)
		}
	}
	if r := in.request("GET", "/v1/models", "", "Origin", in.url); r.status != 403 {
		t.Errorf("a page: %+v", r)
	}
	if got := c.requestedModels(); !slices.Equal(got, []string{"openai/gpt-4o", "openai/gpt-4o", "openai/gpt-4o"}) {
		t.Errorf("the cloud got calls for %q", got)
	}
	open := launch(t, nil, "--config", file.path, "--listen", "0.0.0.0:0", "--insecure-no-auth")
	if r := open.chat("gpt-4o", ""); r.status != 200 || !strings.Contains(open.logged(), `"level":"warn"`) || !strings.Contains(open.logged(), "spend your money") {
		t.Errorf("%+v\n%s", r, open.logged())
	}
}

// TestMaxConnections: a connection beyond the limit is accepted when another one ends.
func TestMaxConnections(t *testing.T) {
	c := newFakeCloud(t)
	file := newTestConfig(t, fmt.Sprintf("max_connections: 1\nupstreams:\n  openrouter: {base_url: %q}\n", c.URL))
	in := launch(t, nil, "--config", file.path)
	first, second := &http.Transport{}, &http.Transport{}
	defer second.CloseIdleConnections()
	ask := func(by *http.Transport) error {
		resp, err := (&http.Client{Transport: by}).Get(in.url + "/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := ask(first); err != nil { // and its connection stays
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- ask(second) }()
	if err := ask(first); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answered:
		t.Fatalf("two connections at once: %v", err)
	default:
	}
	first.CloseIdleConnections()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
