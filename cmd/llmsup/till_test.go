package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// till plays OpenRouter as far as money goes: it lists prices, and says of each
// call what it cost, which is what it takes.
type till struct {
	*httptest.Server
	mu    sync.Mutex
	taken usd.Amount
	calls int
	lists int
}

// The prices that a till lists for what local falls back on, in picodollars a
// token.
const (
	tillPrompt     = 100_000
	tillCompletion = 250_000
)

func newTill(t *testing.T) *till {
	t.Helper()
	c := &till{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.answer))
	t.Cleanup(c.Close)
	return c
}

func (c *till) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodGet {
		if r.Header.Get("Authorization") != "" { // without a key it is only asked whether it is llmsup itself
			c.lists++
		}
		fmt.Fprint(w, `{"data":[{"id":"qwen/qwen-2.5-14b-instruct","pricing":{"prompt":"0.0000001","completion":"0.00000025"}}]}`)
		return
	}
	c.calls++
	cost := usd.Amount(c.calls)*123_456_789 + 1 // picodollars
	c.taken += cost
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":11,"completion_tokens":2,"cost":%s}`, cost)
	if gjson.GetBytes(body, "user").Str == "waits" { // for the end of an answer, which does not come
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"from the\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		c.mu.Unlock()
		<-r.Context().Done()
		c.mu.Lock()
		return
	}
	if gjson.GetBytes(body, "stream").Bool() {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"from the cloud\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
		return
	}
	fmt.Fprintf(w, `{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"from the cloud"}}],%s}`, usage)
}

// sum returns what it has taken, and for how many calls.
func (c *till) sum() (usd.Amount, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken, c.calls
}

// forget begins anew to count what it takes.
func (c *till) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken, c.calls = 0, 0
}

// asked returns how often its prices were asked for.
func (c *till) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists
}

// config is a llmsup.yaml with a till for OpenRouter, and a key for this test's
// calls; more comes after it.
func (c *till) config(more string) string {
	return fmt.Sprintf(`
keys:
  tool: {sha256: %x}
upstreams:
  openrouter: {base_url: "%s/api/v1", api_key_env: TEST_OPENROUTER_KEY}
`, sha256.Sum256([]byte("client-secret")), c.URL) + more
}

func (c *till) env() []string { return []string{"TEST_OPENROUTER_KEY=" + cloudKey} }

// usage returns what llmsup usage --json prints.
func (in *instance) usage(args ...string) (u control.Usage) {
	in.t.Helper()
	code, out := exec1(in.t, append([]string{"usage", "--json", "--control-socket", in.state + "/c.sock"}, args...)...)
	if err := json.Unmarshal([]byte(out), &u); code != 0 || err != nil {
		in.t.Fatalf("llmsup usage %q: exit %d, %v: %s", args, code, err, out)
	}
	return u
}

// awaitStatus waits until the status satisfies ok.
func (in *instance) awaitStatus(what string, ok func(control.Status) bool) control.Status {
	in.t.Helper()
	var last control.Status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s, err := in.client.Status(in.t.Context())
		if err != nil {
			in.t.Fatalf("status: %v", err)
		}
		if last = s; ok(s) {
			return s
		}
	}
	in.t.Fatalf("not %s after a minute: %+v", what, last)
	return last
}

// awaitLog waits until the log has some words.
func (in *instance) awaitLog(words string) {
	in.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(in.logged(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			in.t.Fatalf("the log has no %q", words)
		}
	}
}
