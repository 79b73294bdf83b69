package router

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/plan"
)

// TestAnthropicErrors: every error below /v1/messages, and every one for a client that names
// a version of Anthropic's API, has Anthropic's form, except at an endpoint of another API.
func TestAnthropicErrors(t *testing.T) {
	const upstream, llamaServer = `{"error":{"code":402,"message":"no credit"}}`, `{ "error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":512}}`
	b := newFixture(t, status(400, llamaServer), status(402, upstream), withKeys, func(c *plan.Config, _ map[string]models.Route) { c.Bodies.Bytes = 1000 })
	key := []string{"X-Api-Key", fullKey}
	version := append([]string{"Anthropic-Version", "2023-06-01"}, key...)
	for name, tc := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		kind               string // Anthropic's; "" = OpenAI's form
	}{
		"no key":              {"POST", "/v1/messages", `{}`, nil, 401, "authentication_error"},
		"no key, batches":     {"GET", "/v1/messages/batches", ``, nil, 401, "authentication_error"},
		"unknown model":       {"POST", "/v1/messages", `{"model":"nonsense"}`, key, 404, "not_found_error"},
		"not JSON":            {"POST", "/v1/messages/count_tokens", `x`, key, 400, "invalid_request_error"},
		"too large":           {"POST", "/v1/messages", strings.Repeat(" ", 2000), key, 413, "request_too_large"},
		"compressed":          {"POST", "/v1/messages", `x`, append([]string{"Content-Encoding", "gzip"}, key...), 415, "invalid_request_error"},
		"a GET":               {"GET", "/v1/messages", ``, key, 405, "invalid_request_error"},
		"a GET of a count":    {"GET", "/v1/messages/count_tokens/", ``, key, 405, "invalid_request_error"},
		"batches":             {"POST", "/v1/messages/batches", `{}`, key, 404, "not_found_error"},
		"one batch":           {"GET", "/v1/messages/batches/x/results", ``, key, 404, "not_found_error"},
		"a foreign page":      {"POST", "/v1/messages", `{}`, append([]string{"Origin", "https://evil.example"}, key...), 403, "permission_error"},
		"unknown path":        {"GET", "/v1/files", ``, version, 404, "not_found_error"},
		"base URL":            {"POST", "/v1/v1/messages", `{}`, version, 404, "not_found_error"},
		"unknown path, key":   {"GET", "/v1/files", ``, version[:2], 401, "authentication_error"},
		"models":              {"POST", "/v1/models", ``, version, 405, "invalid_request_error"},
		"from upstream":       {"POST", "/v1/messages", `{"model":"gpt-4o"}`, key, 402, "billing_error"},
		"count from upstream": {"POST", "/v1/messages/count_tokens", `{"model":"gpt-4o"}`, key, 402, "billing_error"},
		"from llama-server":   {"POST", "/v1/messages", `{"model":"local/alone"}`, key, 400, "exceed_context_size_error"},
		"a chat":              {"POST", "/v1/chat/completions", `{"model":"gpt-4o"}`, version, 402, ""},
		"an OpenAI client":    {"GET", "/v1/files", ``, key, 404, ""},
	} {
		r := b.send(tc.method, tc.path, tc.body, tc.headers...)
		isAnthropic := gjson.Get(r.body, "type").Str == "error" && gjson.Get(r.body, "error.message").Str != ""
		if r.status != tc.status || !gjson.Valid(r.body) || isAnthropic != (tc.kind != "") || isAnthropic && gjson.Get(r.body, "error.type").Str != tc.kind {
			t.Errorf("%s: %d %s, want %d %s", name, r.status, r.body, tc.status, tc.kind)
		}
	}
	r := b.send(http.MethodPost, "/v1/messages", `{"model":"local/alone"}`, key...)
	if want := `{"type":"error", "error"` + strings.TrimPrefix(llamaServer, `{ "error"`); r.body != want {
		t.Errorf("%s, want %s", r.body, want)
	}
}

// TestErrorsInAnthropicSDK: the official SDK reads type and message of every error.
func TestErrorsInAnthropicSDK(t *testing.T) {
	b := newFixture(t, status(400, `{"error":{"code":400,"message":"too long","type":"invalid_request_error"}}`), status(402, `{"error":{"code":402,"message":"no credit"}}`))
	client := anthropic.NewClient(anthropicoption.WithBaseURL(b.url), anthropicoption.WithAPIKey("unused"), anthropicoption.WithMaxRetries(0))
	message := func(model string) anthropic.MessageNewParams {
		return anthropic.MessageNewParams{
			Model: anthropic.Model(model), MaxTokens: 5,
			Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hi"))},
		}
	}
	for name, tc := range map[string]struct {
		call   func() error
		status int
		kind   anthropic.ErrorType
		says   string
	}{
		"no such model":     {func() error { _, err := client.Messages.New(t.Context(), message("nonsense")); return err }, 404, "not_found_error", "does not exist"},
		"from llama-server": {func() error { _, err := client.Messages.New(t.Context(), message("local/alone")); return err }, 400, "invalid_request_error", "too long"},
		"from an upstream":  {func() error { _, err := client.Messages.New(t.Context(), message("gpt-4o")); return err }, 402, "billing_error", "no credit"},
		"batches": {func() error {
			_, err := client.Messages.Batches.New(t.Context(), anthropic.MessageBatchNewParams{})
			return err
		}, 404, "not_found_error", "no endpoint at POST /v1/messages/batches"},
	} {
		err := tc.call()
		e, ok := errors.AsType[*anthropic.Error](err)
		if !ok || e.StatusCode != tc.status || e.Type() != tc.kind || !strings.Contains(e.RawJSON(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
