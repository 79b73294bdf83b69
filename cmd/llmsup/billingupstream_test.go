package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// billingUpstream imitates the billing of OpenRouter: it lists prices, and reports the
// cost of each call in the usage.
type billingUpstream struct {
	*httptest.Server
	mu     sync.Mutex
	billed usd.Amount
	calls  int
	lists  int // requests for the list of prices
}

// The listed prices of the fallback of the local model, in picodollars per token.
const (
	billedPromptPrice     = 100_000
	billedCompletionPrice = 250_000
)

func newBillingUpstream(t *testing.T) *billingUpstream {
	t.Helper()
	c := &billingUpstream{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.answer))
	t.Cleanup(c.Close)
	return c
}

func (c *billingUpstream) answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method == http.MethodGet {
		if r.Header.Get("Authorization") != "" { // without a key llmsup only checks whether the upstream is llmsup itself
			c.lists++
		}
		fmt.Fprint(w, `{"data":[{"id":"qwen/qwen-2.5-14b-instruct","pricing":{"prompt":"0.0000001","completion":"0.00000025"}}]}`)
		return
	}
	c.calls++
	cost := usd.Amount(c.calls)*123_456_789 + 1 // picodollars
	c.billed += cost
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":11,"completion_tokens":2,"cost":%s}`, cost)
	if gjson.GetBytes(body, "user").Str == "waits" { // for the end of an answer that never ends
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

// total returns how much was billed, and for how many calls.
func (c *billingUpstream) total() (usd.Amount, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.billed, c.calls
}

// reset sets the total to zero.
func (c *billingUpstream) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.billed, c.calls = 0, 0
}

// priceRequests returns how often the list of prices was requested.
func (c *billingUpstream) priceRequests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lists
}

// config returns a llmsup.yaml in which this upstream is OpenRouter, with a key for the
// calls of the tests. more is appended.
func (c *billingUpstream) config(more string) string {
	return fmt.Sprintf(`
keys:
  tool: {sha256: %x}
upstreams:
  openrouter: {base_url: "%s/api/v1", api_key_env: TEST_OPENROUTER_KEY}
`, sha256.Sum256([]byte("client-secret")), c.URL) + more
}

func (c *billingUpstream) env() []string { return []string{"TEST_OPENROUTER_KEY=" + cloudKey} }

// usage returns what llmsup usage --json prints.
func (in *instance) usage(args ...string) (u control.Usage) {
	in.t.Helper()
	code, out := in.run(append([]string{"usage", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &u); code != 0 || err != nil {
		in.t.Fatalf("llmsup usage %q: exit %d, %v: %s", args, code, err, out)
	}
	return u
}
