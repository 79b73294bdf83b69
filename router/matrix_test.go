package router

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// failing is a backend that does something else than answer.
type failing struct {
	behave http.HandlerFunc
	reason backend.Reason
}

// failings are the ways in which a backend fails before the first answer.
func failings() map[string]failing {
	return map[string]failing{
		"400":                {status(400, `{"error":{"message":"bad"}}`), backend.Status},
		"401":                {status(401, `{}`), backend.Status},
		"404":                {status(404, ``), backend.Status},
		"429":                {status(429, `{}`, "Retry-After", "1"), backend.Status},
		"500":                {status(500, `oops`), backend.Status},
		"503 loading":        {status(503, `{"error":{"message":"Loading model","type":"unavailable_error","code":503}}`), backend.Loading},
		"501":                {status(501, `{"error":{"type":"not_supported_error"}}`), backend.Unsupported},
		"context":            {status(400, `{"error":{"type":"exceed_context_size_error","n_ctx":10}}`), backend.ContextOverflow},
		"redirect":           {status(307, ``, "Location", "http://127.0.0.1:1/"), backend.Status},
		"reset":              {breaks, backend.Lost},
		"no HTTP":            {hijack("SSH-2.0-OpenSSH\r\n"), backend.Lost},
		"error as 200":       {status(200, `{"error":{"message":"no provider","code":502}}`), backend.BadResponse},
		"empty choices":      {status(200, `{"choices":[]}`), backend.BadResponse},
		"HTML":               {status(200, `<html>`, "Content-Type", "text/html"), backend.BadResponse},
		"nothing":            {status(200, ``), backend.BadResponse},
		"cut headers":        {hijack("HTTP/1.1 200 OK\r\nContent-"), backend.Lost},
		"cut body":           {hijack("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + wholeChat), backend.Lost},
		"never":              {hangs, backend.Timeout},
		"headers only":       {sends(hangs), backend.Timeout},
		"comments only":      {sends(hangs, ": ping\n\n", ": OPENROUTER PROCESSING\n\n"), backend.Timeout},
		"role only":          {sends(hangs, roleEvent), backend.Timeout},
		"half an event":      {sends(hangs, roleEvent, `data: {"choices":[{"delta":{"content":" 1"`), backend.Timeout},
		"role, then cut":     {sends(breaks, roleEvent), backend.Lost},
		"role, then end":     {sends(ends, roleEvent), backend.BadResponse},
		"done at once":       {sends(ends, doneEvent), backend.BadResponse},
		"empty stream":       {sends(ends), backend.BadResponse},
		"first event: error": {sends(ends, `data: {"error":{"message":"x"}}`+"\n\n"), backend.BadResponse},
		"finish: error":      {sends(ends, roleEvent, `data: {"error":{"code":1},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`+"\n\n"), backend.BadResponse},
		"a wrong type":       {status(200, `{"choices":[{"message":{"content":"x"}}`, "Content-Type", "image/png"), backend.BadResponse},
		"cut in the middle":  {status(200, wholeChat[:len(wholeChat)/2]), backend.BadResponse},
		"a number":           {status(200, `7`), backend.BadResponse},
		"error event alone":  {sends(ends, "event: error\n"+`data: {"error":{"message":"overloaded","type":"server_error"}}`+"\n\n"), backend.BadResponse},
		"empty deltas":       {sends(hangs, `data: {"choices":[{"delta":{"content":""}}]}`+"\n\n", `data: {"choices":[{"delta":{}}]}`+"\n\n"), backend.Timeout},
		"a hundred pings":    {sends(hangs, strings.Repeat(": ping\n\n", 100)), backend.Timeout},
	}
}

// own are the failings that are an error of the backend's own, by status: it is
// passed on where nobody else could be asked.
var own = map[string]int{"400": 400, "401": 401, "404": 404, "429": 429, "500": 500, "503 loading": 503, "501": 501, "context": 400}

// ownThen is own of a fallback: what is its operator's matter is not passed on, and
// the caller may come again where the first one has said when, or is loading.
func ownThen(first, second string) int {
	switch {
	case second != "401" && second != "404":
		return own[second]
	case first == "429" || first == "503 loading":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// refusals are those after which an upstream is asked again, where nobody else
// can be.
var refusals = map[string]bool{"429": true, "503 loading": true}

// TestMatrix: every way to fail, as a stream and not, alone and with a fallback
// that fails in every way. The client always gets one honest error, and nobody is
// asked more often than it may.
func TestMatrix(t *testing.T) {
	for name, f := range failings() {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %t, alone", name, stream), func(t *testing.T) {
				t.Parallel()
				var b *bench
				var r reply
				inTime(f.reason == backend.Timeout, func(timeout time.Duration) bool {
					b = newBench(t, f.behave, answers, short(timeout))
					r = b.chat("local/alone", stream)
					return len(b.local.calls()) > 0
				})
				b.wantError(r, own[name], f.reason)
				if own[name] == 0 && gjson.Get(r.body, "error.code").Str != string(f.reason) {
					t.Errorf("code of %s, want %s", r.body, f.reason)
				}
				if l, c := len(b.local.calls()), len(b.cloud.calls()); l != 1 || c != 0 {
					t.Errorf("local was asked %d times, the cloud %d times", l, c)
				}
			})
		}
		for second, g := range failings() {
			t.Run(fmt.Sprintf("%s, then %s", name, second), func(t *testing.T) {
				t.Parallel()
				var b *bench
				var r reply
				inTime(f.reason == backend.Timeout || g.reason == backend.Timeout, func(timeout time.Duration) bool {
					first, then := time.Minute, time.Minute // far beyond the pauses between retries
					if f.reason == backend.Timeout {
						first = timeout
					}
					if g.reason == backend.Timeout {
						then = timeout
					}
					b = newBench(t, f.behave, g.behave, short(first), func(c *plan.Config, _ map[string]models.Route) { c.FallbackTimeout = then })
					r = b.chat("local/qwen", len(name)%2 == 0)
					return len(b.local.calls()) > 0 && len(b.cloud.calls()) > 0
				})
				b.wantError(r, ownThen(name, second), g.reason)
				if gjson.Get(r.body, "error.code").Str != wire.CodeBothFailed {
					t.Errorf("code of %s", r.body)
				}
				message := gjson.Get(r.body, "error.message").Str
				if i, j := strings.Index(message, "qwen "), strings.Index(message, "; then openrouter "); i != 0 || j < 0 {
					t.Errorf("the error does not name both causes: %q", message)
				}
				most := 1
				if refusals[second] {
					most = 1 + backend.MaxRetries
				}
				if l, c := len(b.local.calls()), len(b.cloud.calls()); l != 1 || c < 1 || c > most {
					t.Errorf("local was asked %d times, the cloud %d times", l, c)
				}
			})
		}
	}
}

// wantError checks that an answer is one error in JSON, with a status that fits.
func (b *bench) wantError(r reply, status int, reason backend.Reason) {
	b.t.Helper()
	if status == 0 {
		status = http.StatusBadGateway
		if reason == backend.Timeout {
			status = http.StatusGatewayTimeout
		}
	}
	if r.status != status || r.readErr != nil {
		b.t.Errorf("%d %q, %v; want %d", r.status, r.body, r.readErr, status)
	}
}

// TestTLSErrors: an upstream whose certificate nobody vouches for, or that does
// not speak TLS at all, is not reached, and the call moves.
func TestTLSErrors(t *testing.T) {
	stranger := httptest.NewTLSServer(http.HandlerFunc(answers))
	stranger.Config.ErrorLog = nil
	defer stranger.Close()
	plain := httptest.NewServer(http.HandlerFunc(answers))
	defer plain.Close()
	for name, url := range map[string]string{
		"a stranger's certificate": stranger.URL, "no TLS at all": strings.Replace(plain.URL, "http:", "https:", 1),
	} {
		b := newBench(t, answers, answers, func(c *plan.Config, routes map[string]models.Route) {
			c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "secure", BaseURL: url, Key: "k"})
			routes["secure-first"] = models.Route{Primary: "secure", Fallback: "qwen", Timeout: time.Minute}
			routes["secure"] = models.Route{Primary: "secure", Timeout: time.Minute}
		})
		if r := b.chat("secure-first", false); r.status != 200 || r.backend() != "qwen" || r.reason() != "connect" {
			t.Errorf("%s: %+v", name, r)
		}
		if r := b.chat("secure", false); r.status != 502 || gjson.Get(r.body, "error.code").Str != "connect" {
			t.Errorf("%s, alone: %+v", name, r)
		}
	}
}

// TestAfterCommit: what goes wrong once a client has the beginning of a stream is
// told to it in the stream, and nobody else is asked.
func TestAfterCommit(t *testing.T) {
	for name, behave := range map[string]http.HandlerFunc{
		"cut":             sends(breaks, roleEvent, textEvent),
		"a clean end":     sends(ends, roleEvent, textEvent),
		"half an event":   sends(ends, roleEvent, textEvent, `data: {"choices":[{"delta":{"cont`),
		"an error event":  sends(ends, roleEvent, textEvent, `data: {"error":{"message":"the engine has died","code":500}}`+"\n\n"),
		"silence":         sends(hangs, roleEvent, textEvent),
		"error, then cut": sends(breaks, roleEvent, textEvent, `data: {"error":{"message":"the engine has died","code":500}}`+"\n\n"),
	} {
		b := newBench(t, behave, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 200 * time.Millisecond })
		r := b.chat("local/qwen", true)
		if r.status != 200 || !strings.HasPrefix(r.body, roleEvent+textEvent) || !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
		if len(b.cloud.calls()) != 0 {
			t.Errorf("%s: somebody else was asked", name)
		}
	}
}
