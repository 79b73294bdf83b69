package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

func itoa(n int) string { return strconv.Itoa(n) }

const cloudKey = "sk-or-v1-test-secret"

// fakeCloud imitates OpenRouter.
type fakeCloud struct {
	*httptest.Server
	mu     sync.Mutex
	models []string // of the calls
	bodies [][]byte
	auth   []string
}

func newFakeCloud(t *testing.T) *fakeCloud {
	t.Helper()
	c := &fakeCloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.answer))
	t.Cleanup(c.Close)
	return c
}

// answer answers every call, as a stream if it asks for one.
func (c *fakeCloud) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // it has no list of models
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	model := gjson.GetBytes(body, "model").Str
	c.mu.Lock()
	c.models = append(c.models, model)
	c.bodies = append(c.bodies, body)
	c.auth = append(c.auth, r.Header.Get("Authorization"))
	c.mu.Unlock()
	if gjson.GetBytes(body, "stream").Bool() {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, ": OPENROUTER PROCESSING\n\ndata: {\"id\":\"gen-1\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"from the cloud\"}}]}\n\ndata: [DONE]\n\n", model)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"gen-1","model":%q,"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"from the cloud"}}],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4}}`, model)
}

// requestedModels returns the model of each call.
func (c *fakeCloud) requestedModels() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.models...)
}

// forget removes the last n calls from the record.
func (c *fakeCloud) forget(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.models = c.models[:len(c.models)-n]
}

// config writes a llmsup.yaml in which the demo server falls back on the cloud.
func (c *fakeCloud) config(t *testing.T, timeout string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llmsup.yaml")
	text := fmt.Sprintf(`
upstreams:
  openrouter:
    base_url: %s/api/v1
    api_key_env: TEST_OPENROUTER_KEY
routes:
  local/demo:
    primary: demo
    fallback: openrouter
    fallback_model: qwen/qwen-2.5-14b-instruct
    timeout: %s
`, c.URL, timeout)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// env is the environment in which llmsup has the cloud's key.
func (c *fakeCloud) env() []string { return []string{"TEST_OPENROUTER_KEY=" + cloudKey} }
