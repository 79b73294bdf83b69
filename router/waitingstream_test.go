package router

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	waitComment = ": waiting for the model\n\n"
	streamBody  = `{"model":"local/qwen","stream":true,"messages":[],"max_tokens":5,"input":"x"}`
)

// keepAliveAt makes the response of a waiting stream begin after that time.
func keepAliveAt(after time.Duration) func(*plan.Config, map[string]models.Route) {
	return func(c *plan.Config, _ map[string]models.Route) { c.KeepAliveAfter = after }
}

// begunStream is a response that has begun.
type begunStream struct{ *http.Response }

// openStream makes a streaming call, and returns once its response has begun.
func (l *gatedServer) openStream(ctx context.Context, path string) begunStream {
	l.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+path, strings.NewReader(streamBody))
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = resp.Body.Close() })
	return begunStream{resp}
}

// wantBegun checks the beginning of a response, and reads its first comment.
func wantBegun(t *testing.T, resp begunStream) {
	t.Helper()
	comment := make([]byte, len(waitComment))
	if _, err := io.ReadFull(resp.Body, comment); err != nil || string(comment) != waitComment {
		t.Errorf("%q, %v", comment, err)
	}
	h := resp.Header
	if resp.StatusCode != 200 || h.Get("Content-Type") != "text/event-stream" || h.Get(wire.HeaderQueue) != "1" ||
		h.Get(wire.HeaderRequestID) == "" || h[wire.HeaderBackend] != nil || h[wire.HeaderReason] != nil {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
}

// TestWaitingStream: a stream that waits for its model begins, and is answered by the server
// or, when the wait is over or the server fails, by the fallback.
func TestWaitingStream(t *testing.T) {
	const begins = 20 * time.Millisecond
	for name, tc := range map[string]struct {
		w               models.WhileLoading
		then            func(l *gatedServer) // after the response has begun
		backend, reason string
	}{
		"the model is loaded": {models.WaitForTimeout, func(l *gatedServer) { l.state.transition(ready) }, "qwen", ""},
		"the wait is over":    {models.WhileLoading(250 * begins), func(*gatedServer) {}, "openrouter", "loading"},
		"the server breaks": {models.WaitForTimeout, func(l *gatedServer) {
			l.local.mu.Lock()
			l.local.handler = breaks
			l.local.mu.Unlock()
			l.state.transition(ready)
		}, "openrouter", "lost"},
		"the server has no stream": {models.WaitForTimeout, func(l *gatedServer) {
			l.local.mu.Lock()
			l.local.handler = answers
			l.local.mu.Unlock()
			l.state.transition(ready)
		}, "openrouter", "bad_response"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newWaitingRoute(t, tc.w, time.Minute, keepAliveAt(begins))
			l.local.mu.Lock()
			l.local.handler = l.local.answersInKind()
			l.local.mu.Unlock()
			l.cloud.mu.Lock()
			l.cloud.handler = l.cloud.answersInKind()
			l.cloud.mu.Unlock()
			resp := l.openStream(t.Context(), "/v1/chat/completions")
			wantBegun(t, resp)
			tc.then(l)
			body, err := io.ReadAll(resp.Body)
			want := wholeSSE
			if tc.backend == "openrouter" { // the client has not asked for the usage
				want = strings.Replace(want, usageEvent, "", 1)
			}
			if string(body) != want || err != nil {
				t.Errorf("%q, %v\nwant %q", body, err, want)
			}
			if resp.Trailer.Get(wire.HeaderBackend) != tc.backend || resp.Trailer.Get(wire.HeaderReason) != tc.reason {
				t.Errorf("trailers %v, want %s, %q", resp.Trailer, tc.backend, tc.reason)
			}
			l.waitIdle()
			if n := len(l.cloud.requests()); (n == 1) != (tc.backend == "openrouter") {
				t.Errorf("the cloud got %d calls", n)
			}
		})
	}
}

// TestWaitingStreamFails: a stream that has begun and that no backend answers ends with an
// error event of its dialect, and an aborted connection.
func TestWaitingStreamFails(t *testing.T) {
	events := map[string]func(gjson.Result) gjson.Result{
		"/v1/chat/completions": func(e gjson.Result) gjson.Result { return e.Get("error") },
		"/v1/completions":      func(e gjson.Result) gjson.Result { return e.Get("error") },
		"/v1/messages":         func(e gjson.Result) gjson.Result { return e.Get("error") },
		"/v1/responses":        func(e gjson.Result) gjson.Result { return e },
	}
	for name, tc := range map[string]struct {
		cloud   http.HandlerFunc // nil = the route has no fallback
		local   http.HandlerFunc // nil = the model is not loaded in time
		status  string           // in the log
		message []string         // parts of it
	}{
		"not loaded":                     {nil, nil, "503", []string{"qwen is loading, and accepted no call within 5s"}},
		"the fallback has no credit":     {status(402, `{"error":{"message":"no credit"}}`), nil, "503", []string{"qwen is loading", "no credit"}},
		"the fallback rejects it":        {status(400, `{"error":{"message":"too long: 9","type":"invalid_request_error","code":"x"}}`), nil, "400", []string{"too long: 9"}},
		"the fallback has no stream":     {status(200, wholeChat), nil, "502", []string{"qwen is loading", "openrouter answered"}},
		"the server rejects it":          {nil, status(400, `{"error":{"message":"bad field","type":"invalid_request_error"}}`), "400", []string{"bad field"}},
		"the server breaks the call":     {nil, breaks, "502", []string{"qwen"}},
		"the server's key is not quoted": {nil, status(500, `{"error":{"message":"secret is `+localKey+`"}}`), "500", []string{"secret is"}},
	} {
		for path, errorOf := range events {
			t.Run(name+", "+path, func(t *testing.T) {
				t.Parallel()
				l := newLoadingServer(t, keepAliveAt(20*time.Millisecond), func(_ *plan.Config, routes map[string]models.Route) {
					route := models.Route{Primary: "qwen", Timeout: 5 * time.Second} // the response begins long before
					if tc.cloud != nil {
						route.Fallback, route.WhileLoading = "openrouter", models.WaitForTimeout
					}
					if tc.local != nil {
						route.Timeout = time.Minute
					}
					routes["local/qwen"] = route
				})
				l.cloud.mu.Lock()
				l.cloud.handler = tc.cloud
				l.cloud.mu.Unlock()
				resp := l.openStream(t.Context(), path)
				wantBegun(t, resp)
				if tc.local != nil {
					l.local.mu.Lock()
					l.local.handler = tc.local
					l.local.mu.Unlock()
					l.state.transition(ready)
				}
				reader := wire.NewEventReader(resp.Body)
				e, err := reader.Next()
				data := gjson.ParseBytes(e.Data)
				got := errorOf(data).Get("message").Str
				for _, part := range tc.message {
					if err != nil || !strings.Contains(got, part) || strings.Contains(got, localKey) {
						t.Errorf("%v: %s\nwant %q", err, e.Raw, tc.message)
					}
				}
				if path == "/v1/responses" && data.Get("sequence_number").Type != gjson.Number {
					t.Errorf("no sequence_number: %s", e.Raw)
				}
				if _, err := reader.Next(); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("after the error: %v, want an aborted connection", err)
				}
				l.waitIdle()
				if log := l.log.String(); !strings.Contains(log, `"status":`+tc.status) {
					t.Errorf("no status %s in the log: %s", tc.status, log)
				}
			})
		}
	}
}

// TestNoEarlyResponse: calls without a stream, and streams that wait only for a slot, receive
// nothing before their answer.
func TestNoEarlyResponse(t *testing.T) {
	const begins = time.Millisecond
	l := newLoadingServer(t, keepAliveAt(begins))
	whole := l.startChat(t.Context(), "local/alone", "x")
	l.waitQueued(1)
	outlast(begins)
	l.state.transition(ready)
	if r := <-whole; r.status != 200 || r.body != wholeChat || r.backend() != "qwen" {
		t.Errorf("%+v", r)
	}

	l = newGatedServer(t, 1, keepAliveAt(begins))
	first := l.startBody(t.Context(), `{"model":"local/alone","user":"x","messages":[]}`)
	<-l.arrived
	second := l.startBody(t.Context(), `{"model":"local/alone","user":"y","stream":true,"messages":[]}`)
	l.waitQueued(1)
	outlast(begins)
	l.proceed <- struct{}{}
	<-first
	<-l.arrived
	l.proceed <- struct{}{}
	if r := <-second; r.backend() != "qwen" || r.queue() != "1" || strings.Contains(r.body, waitComment) {
		t.Errorf("%+v", r)
	}
}

// TestClientGoneAfterComment: a client that closes its connection after the response has begun
// leaves the queue within 100 ms, and no backend is asked.
func TestClientGoneAfterComment(t *testing.T) {
	l := newWaitingRoute(t, models.WaitForTimeout, time.Minute, keepAliveAt(time.Millisecond))
	var fastest time.Duration
	for try := 0; try < 20 && (try == 0 || fastest > 100*time.Millisecond); try++ { // a busy machine may make some of them late
		ctx, cancel := context.WithCancel(t.Context())
		wantBegun(t, l.openStream(ctx, "/v1/chat/completions"))
		cancel()
		gone := time.Now()
		l.waitQueued(0)
		l.waitIdle()
		if took := time.Since(gone); fastest == 0 || took < fastest {
			fastest = took
		}
	}
	if fastest > 100*time.Millisecond {
		t.Errorf("the fastest of them left after %s", fastest)
	}
	if n := len(l.local.requests()) + len(l.cloud.requests()); n != 0 {
		t.Errorf("the backends got %d calls", n)
	}
	if log := l.log.String(); !strings.Contains(log, `"status":499`) {
		t.Error(log)
	}
}

// TestWaitingStreamBreaks: a stream that began early and whose answer breaks ends as any other.
func TestWaitingStreamBreaks(t *testing.T) {
	l := newWaitingRoute(t, models.WaitForTimeout, time.Minute, keepAliveAt(time.Millisecond))
	l.local.mu.Lock()
	l.local.handler = sends(breaks, roleEvent, textEvent)
	l.local.mu.Unlock()
	resp := l.openStream(t.Context(), "/v1/chat/completions")
	wantBegun(t, resp)
	l.state.transition(ready)
	var lines []string
	scanner := bufio.NewScanner(resp.Body)
	for scanner.Scan() {
		if line := scanner.Text(); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 || !strings.Contains(lines[2], `"code":"lost"`) || scanner.Err() == nil {
		t.Errorf("%q, %v", lines, scanner.Err())
	}
}
