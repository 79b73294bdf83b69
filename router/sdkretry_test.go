package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// sdkCall is a call through an SDK that has its default settings, so that it repeats what
// it thinks is worth repeating. It returns the last status.
type sdkCall func(ctx context.Context, client *http.Client, url, model string) (status int)

var sdkCalls = map[string]sdkCall{
	"openai-go": func(ctx context.Context, client *http.Client, url, model string) int {
		c := openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey("k"), option.WithHTTPClient(client))
		_, err := c.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
			Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")},
		})
		if apiErr, ok := errors.AsType[*openai.Error](err); ok {
			return apiErr.StatusCode
		}
		return 0
	},
	"anthropic-sdk-go": func(ctx context.Context, client *http.Client, url, model string) int {
		c := anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("k"), anthropicoption.WithHTTPClient(client))
		_, err := c.Messages.New(ctx, anthropic.MessageNewParams{
			Model: model, MaxTokens: 9, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("count"))},
		})
		if apiErr, ok := errors.AsType[*anthropic.Error](err); ok {
			return apiErr.StatusCode
		}
		return 0
	},
}

// countedTransport sends requests from a synctest bubble, in which the SDK's pauses take no
// time, through a goroutine outside of it, and counts them.
type countedTransport struct {
	requests chan *http.Request
	answers  chan *http.Response
	count    int
}

// newCountedTransport starts the goroutine, which runs until the test ends.
func newCountedTransport(t *testing.T) *countedTransport {
	t.Helper()
	c := &countedTransport{requests: make(chan *http.Request), answers: make(chan *http.Response)}
	t.Cleanup(func() { close(c.requests) })
	go func() {
		for r := range c.requests {
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				resp = &http.Response{Body: http.NoBody}
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			resp.Body = io.NopCloser(bytes.NewReader(body))
			c.answers <- resp
		}
	}()
	return c
}

func (c *countedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.count++
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	// Without the SDK's context, which belongs to the bubble.
	outside, err := http.NewRequestWithContext(context.Background(), r.Method, r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	outside.Header = r.Header
	c.requests <- outside
	return <-c.answers, nil
}

// useSDK makes a call through an SDK. It returns the last status, the number of requests, and
// how long the SDK paused between them.
func (b *fixture) useSDK(call sdkCall, model string) (status, requests int, paused time.Duration) {
	b.t.Helper()
	transport := newCountedTransport(b.t)
	synctest.Test(b.t, func(t *testing.T) {
		began := time.Now()
		status = call(t.Context(), &http.Client{Transport: transport}, b.url, model)
		paused = time.Since(began)
	})
	return status, transport.count, paused
}

// once and thrice are how many requests the SDKs send: they repeat a request twice.
const (
	once   = 1
	thrice = 3
)

// TestSDKsRepeatOnlyWhatHelps counts the requests of both SDKs for each row of the table of
// errors in the README.
func TestSDKsRepeatOnlyWhatHelps(t *testing.T) {
	const words = `{"error":{"message":"see your account"}}`
	overflow := status(400, `{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":10}}`)
	in := func(reason backend.Reason) func(*backend.LocalState) {
		return func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = reason, "is "+string(reason), false }
	}
	type row struct {
		local    http.HandlerFunc
		state    func(*backend.LocalState)
		cloud    http.HandlerFunc
		status   int
		requests int
	}
	rows := map[string]row{
		"overflow, then 400":      {overflow, nil, status(400, words), 400, once},
		"overflow, then 413":      {overflow, nil, status(413, words), 400, once},
		"overflow, then 500":      {overflow, nil, status(500, words), 500, thrice},
		"overflow, then lost":     {overflow, nil, breaks, 502, thrice},
		"422, then 422":           {status(422, words), nil, status(422, words), 422, once},
		"500, then 422":           {status(500, words), nil, status(422, words), 422, once},
		"500, then 500":           {status(500, words), nil, status(500, words), 500, thrice},
		"501, then 501":           {status(501, words), nil, status(501, words), 502, once},
		"lost, then 501":          {breaks, nil, status(501, words), 502, thrice},
		"failed, then 400":        {answers, in(backend.Failed), status(400, words), 400, once},
		"failed, then 500":        {answers, in(backend.Failed), status(500, words), 500, thrice},
		"restarting, then 400":    {answers, in(backend.Restarting), status(400, words), 400, once},
		"restarting, then 500":    {answers, in(backend.Restarting), status(500, words), 500, thrice},
		"429, then 500":           {status(429, `{}`, "Retry-After", "9"), nil, status(500, words), 500, thrice},
		"failed, then lost":       {answers, in(backend.Failed), breaks, 502, thrice},
		"failed, then a redirect": {answers, in(backend.Failed), status(307, "", "Location", "/"), 502, once},
	}
	for _, code := range []int{401, 402, 403, 404} { // only the operator can fix these
		then := func(name string, local http.HandlerFunc, state func(*backend.LocalState), want, requests int) {
			rows[fmt.Sprintf("%s, then %d", name, code)] = row{local, state, status(code, words), want, requests}
		}
		then("overflow", overflow, nil, 400, once)
		then("400", status(400, words), nil, 400, once)
		then("401", status(401, words), nil, 502, once)
		then("failed", answers, in(backend.Failed), 502, once)
		then("drained", answers, in(backend.Drained), 502, once)
		then("restarting", answers, in(backend.Restarting), 503, thrice)
		then("loading", answers, in(backend.Loading), 503, thrice)
		then("lost", breaks, nil, 502, thrice)
		then("500", status(500, words), nil, 502, thrice)
		then("429", status(429, `{}`, "Retry-After", "9"), nil, 503, thrice)
	}
	for name, tc := range rows {
		for sdk, call := range sdkCalls {
			t.Run(name+", "+sdk, func(t *testing.T) {
				t.Parallel()
				b := newFixture(t, tc.local, tc.cloud)
				if tc.state != nil {
					b.state.edit(tc.state)
				}
				if code, n, _ := b.useSDK(call, "local/qwen"); code != tc.status || n != tc.requests {
					t.Errorf("%d after %d requests, want %d after %d", code, n, tc.status, tc.requests)
				}
			})
		}
	}
}

// TestSDKsAndOwnErrors counts the requests of both SDKs for errors that llmsup makes before
// any backend is asked, and how long they pause.
func TestSDKsAndOwnErrors(t *testing.T) {
	small := func(c *plan.Config, _ map[string]models.Route) { c.Bodies.Bytes = 10 }
	withoutKey := func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].Missing = "set OPENROUTER_API_KEY" }
	for name, tc := range map[string]struct {
		model    string
		edit     func(*plan.Config, map[string]models.Route)
		state    func(*backend.LocalState)
		status   int
		requests int
		pause    time.Duration // after each request; 0 = the SDK chooses
	}{
		"an unknown model": {"nonsense", nil, nil, 404, once, 0},
		"a large body":     {"local/alone", small, nil, 413, once, 0},
		"no upstream key":  {"gpt-4o", withoutKey, nil, 503, once, 0},
		"drained":          {"local/alone", nil, func(s *backend.LocalState) { s.Reason, s.Alive = backend.Drained, false }, 503, once, 0},
		"drained for long": {"local/alone", nil, func(s *backend.LocalState) {
			s.Reason, s.Alive, s.ReadyAt = backend.Drained, false, time.Now().Add(2*time.Hour)
		}, 503, once, 0},
		"drained briefly": {"local/alone", nil, func(s *backend.LocalState) {
			s.Reason, s.Alive, s.ReadyAt = backend.Drained, false, time.Now().Add(40*time.Second)
		}, 503, thrice, 40 * time.Second},
		"failed": {"local/alone", nil, func(s *backend.LocalState) { s.Reason, s.Alive = backend.Failed, false }, 503, once, 0},
	} {
		for sdk, call := range sdkCalls {
			t.Run(name+", "+sdk, func(t *testing.T) {
				t.Parallel()
				var edits []func(*plan.Config, map[string]models.Route)
				if tc.edit != nil {
					edits = append(edits, tc.edit)
				}
				b := newFixture(t, answers, answers, edits...)
				if tc.state != nil {
					b.state.edit(tc.state)
				}
				code, n, paused := b.useSDK(call, tc.model)
				if code != tc.status || n != tc.requests {
					t.Errorf("%d after %d requests, want %d after %d", code, n, tc.status, tc.requests)
				}
				if atLeast := time.Duration(n-1) * tc.pause; paused < atLeast-time.Duration(n)*time.Second {
					t.Errorf("the SDK paused %s, want %s", paused, atLeast)
				}
			})
		}
	}
}

// TestShouldRetryForPages: a page's script can read the header.
func TestShouldRetryForPages(t *testing.T) {
	if !strings.Contains(exposedHeaders, "X-Should-Retry") {
		t.Error(exposedHeaders)
	}
}
