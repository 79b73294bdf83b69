package router

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// failureCase is a backend that fails before its first answer.
type failureCase struct {
	handler http.HandlerFunc
	reason  backend.Reason
}

// failureCases are the ways in which a backend fails before the first answer.
func failureCases() map[string]failureCase {
	return map[string]failureCase{
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

// ownStatus has the failures that are the backend's own error, by status: it is passed on
// if no other backend could be asked.
var ownStatus = map[string]int{"400": 400, "401": 401, "404": 404, "429": 429, "500": 500, "503 loading": 503, "501": 501, "context": 400}

// rejections and operatorErrors are the failures after which the same call fails again: the
// request is wrong, or something that only the operator can change. Of the others, a retry
// may help.
var (
	rejections     = map[string]bool{"400": true, "context": true}
	operatorErrors = map[string]bool{"401": true, "404": true, "501": true, "redirect": true}
)

// isDefinite reports whether the client should not send the call again, after the failures
// of a primary and its fallback.
func isDefinite(first, second string) bool {
	temporary := func(name string) bool { return !rejections[name] && !operatorErrors[name] }
	return rejections[second] || !temporary(first) && !temporary(second)
}

// fallbackStatus is the status after both have failed. A fallback's error about its key or
// model is not passed on: the client receives the primary's rejection, or may try again if
// the primary said when, or is loading.
func fallbackStatus(first, second string) int {
	switch {
	case !operatorErrors[second]:
		return ownStatus[second]
	case rejections[first]:
		return http.StatusBadRequest
	case first == "429" || first == "503 loading":
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// isRetried has the failures after which an upstream is asked again if the call has no
// other backend.
var isRetried = map[string]bool{"429": true, "503 loading": true}

// TestFailureMatrix: every way to fail, streaming and not, alone and with a fallback that
// fails in every way. The client receives one error that names the causes, and no backend
// is asked more often than allowed.
func TestFailureMatrix(t *testing.T) {
	for name, f := range failureCases() {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %t, alone", name, stream), func(t *testing.T) {
				t.Parallel()
				var b *fixture
				var r reply
				retryIfTooSlow(f.reason == backend.Timeout, func(timeout time.Duration) bool {
					b = newFixture(t, f.handler, answers, withTimeout(timeout))
					r = b.chat("local/alone", stream)
					return len(b.local.requests()) > 0
				})
				b.wantError(r, ownStatus[name], f.reason)
				if retry := r.header.Get("X-Should-Retry"); retry != strconv.FormatBool(!rejections[name] && !operatorErrors[name]) {
					t.Errorf("X-Should-Retry: %s", retry)
				}
				if ownStatus[name] == 0 && gjson.Get(r.body, "error.code").Str != string(f.reason) {
					t.Errorf("code of %s, want %s", r.body, f.reason)
				}
				if l, c := len(b.local.requests()), len(b.cloud.requests()); l != 1 || c != 0 {
					t.Errorf("local was asked %d times, the cloud %d times", l, c)
				}
			})
		}
		for second, g := range failureCases() {
			t.Run(fmt.Sprintf("%s, then %s", name, second), func(t *testing.T) {
				t.Parallel()
				var b *fixture
				var r reply
				retryIfTooSlow(f.reason == backend.Timeout || g.reason == backend.Timeout, func(timeout time.Duration) bool {
					first, then := time.Minute, time.Minute // far beyond the pauses between retries
					if f.reason == backend.Timeout {
						first = timeout
					}
					if g.reason == backend.Timeout {
						then = timeout
					}
					b = newFixture(t, f.handler, g.handler, withTimeout(first), func(c *plan.Config, _ map[string]models.Route) { c.FallbackTimeout = then })
					r = b.chat("local/qwen", len(name)%2 == 0)
					return len(b.local.requests()) > 0 && len(b.cloud.requests()) > 0
				})
				b.wantError(r, fallbackStatus(name, second), g.reason)
				b.wantBothCauses(r, name, second)
				if retry := r.header.Get("X-Should-Retry"); retry != strconv.FormatBool(!isDefinite(name, second)) {
					t.Errorf("X-Should-Retry: %s", retry)
				}
				most := 1
				if isRetried[second] {
					most = 1 + backend.MaxRetries
				}
				if l, c := len(b.local.requests()), len(b.cloud.requests()); l != 1 || c < 1 || c > most {
					t.Errorf("local was asked %d times, the cloud %d times", l, c)
				}
			})
		}
	}
}

// wantBothCauses checks that an error names both causes: llmsup's own in their order, a
// backend's rejection after the backend's own words.
func (b *fixture) wantBothCauses(r reply, first, second string) {
	b.t.Helper()
	message := gjson.Get(r.body, "error.message").Str
	switch {
	case second == "400" && first != "400" && first != "context":
		if !strings.HasPrefix(message, "bad; before that, qwen ") {
			b.t.Errorf("%s", r.body)
		}
	case first == "400" && isDefinite(first, second):
		if !strings.HasPrefix(message, "bad; then openrouter ") {
			b.t.Errorf("%s", r.body)
		}
	default:
		if i, j := strings.Index(message, "qwen "), strings.Index(message, "; then openrouter "); i != 0 || j < 0 || gjson.Get(r.body, "error.code").Str != wire.CodeBothFailed {
			b.t.Errorf("the error does not name both causes: %s", r.body)
		}
	}
}

// wantError checks that an answer is one error in JSON, with a status that fits.
func (b *fixture) wantError(r reply, status int, reason backend.Reason) {
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
