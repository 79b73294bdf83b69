package router

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// TestConfigErrorOfFallback: a fallback's error about its key, credit or model is the
// operator's to fix, and does not reach the client as an error of the request.
func TestConfigErrorOfFallback(t *testing.T) {
	const body = `{"error":{"message":"see your account"}}`
	is := func(reason backend.Reason, alive bool) func(*backend.LocalState) {
		return func(s *backend.LocalState) {
			s.Reason, s.Detail, s.Alive = reason, "is not there: "+string(reason), alive
		}
	}
	for name, tc := range map[string]struct {
		local    http.HandlerFunc
		state    func(*backend.LocalState)
		fallback http.HandlerFunc // nil = every status of the operator's
		status   int
		retry    string
		message  string // the first cause; "" = the fallback's own error comes through
	}{
		"broken":                         {breaks, nil, nil, 502, "", "qwen lost the connection"},
		"no room":                        {status(429, "{}", "Retry-After", "7"), nil, nil, 503, "7", "qwen answered 429"},
		"the fallback has Retry-After":   {status(503, "{}", "Retry-After", "7"), nil, status(402, body, "Retry-After", "60"), 503, "7", "qwen answered 503"},
		"loading, as it says":            {status(503, `{"error":{"message":"Loading model"}}`), nil, nil, 503, "5", "qwen answered 503"},
		"restarting":                     {answers, is(backend.Restarting, false), nil, 503, "5", "qwen is not there: restarting"},
		"failed":                         {answers, is(backend.Failed, false), nil, 502, "", "qwen is not there: failed"},
		"the client's error, restarting": {answers, is(backend.Restarting, false), status(400, body), 400, "", ""},
		"422, restarting":                {answers, is(backend.Restarting, false), status(422, body), 422, "", ""},
		"422":                            {breaks, nil, status(422, body), 422, "", ""},
	} {
		fallbacks := map[string]http.HandlerFunc{name: tc.fallback}
		if tc.fallback == nil {
			fallbacks = map[string]http.HandlerFunc{}
			for _, code := range []int{401, 402, 403, 404} {
				fallbacks[fmt.Sprintf("%s, then %d", name, code)] = status(code, body)
			}
		}
		for name, fallback := range fallbacks {
			t.Run(name, func(t *testing.T) {
				b := newFixture(t, tc.local, fallback)
				if tc.state != nil {
					b.state.edit(tc.state)
				}
				r := b.chat("local/qwen", false)
				if r.status != tc.status || r.header.Get("Retry-After") != tc.retry || r.reason() == "" {
					t.Errorf("%+v, want %d and Retry-After %q", r, tc.status, tc.retry)
				}
				if tc.message == "" {
					own := strings.Replace(r.body, "; before that, qwen lost the connection: EOF", "", 1)
					if own != body {
						t.Errorf("%s", r.body)
					}
					return
				}
				e := gjson.Get(r.body, "error")
				first, second, _ := strings.Cut(e.Get("message").Str, "; then ")
				if !strings.HasPrefix(first, tc.message) || !strings.HasPrefix(second, "openrouter answered 4") || e.Get("code").Str != wire.CodeBothFailed {
					t.Errorf("%s", r.body)
				}
				if (e.Get("type").Str == wire.TypeServer) != (tc.status >= 500) {
					t.Errorf("%s", r.body)
				}
			})
		}
	}
}

// TestMalformedHeadersAreNotQuoted: the bytes that a backend sent in the place of a header
// appear neither in the answer nor in the log.
func TestMalformedHeadersAreNotQuoted(t *testing.T) {
	for name, answer := range map[string]string{
		"a header without a colon": "HTTP/1.1 200 OK\r\nBearer " + cloudKey + "\r\n\r\n",
		"a strange length":         "HTTP/1.1 200 OK\r\nContent-Length: " + cloudKey + "\r\n\r\n",
		"no status":                "the answer is " + cloudKey + "\r\n\r\n",
		"a strange coding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + cloudKey + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, answers, raw(answer))
			r := b.chat("gpt-4o", false)
			if r.status != 502 || strings.Contains(r.body, cloudKey) || strings.Contains(b.log.String(), cloudKey) {
				t.Errorf("%+v\n%s", r, b.log)
			}
		})
	}
}

// TestInvalidStatus: a status that is neither an answer nor an error is not passed on.
func TestInvalidStatus(t *testing.T) {
	for name, behave := range map[string]http.HandlerFunc{
		"042":          hijack("HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n"),
		"304":          hijack("HTTP/1.1 304 Not Modified\r\n\r\n"),
		"302 and away": status(302, "", "Location", "http://127.0.0.1:1/v1"),
		"999":          hijack("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, answers, behave)
			if r := b.chat("gpt-4o", false); r.status != 502 || r.header.Get("Location") != "" || gjson.Get(r.body, "error.code").Str != "status" {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
}

// TestRedirectsAreNotFollowed: the redirect's target would receive the key.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newFakeBackend(t, answers)
	b := newFixture(t, answers, status(307, "", "Location", elsewhere.URL))
	if r := b.chat("gpt-4o", false); r.status != 502 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if n := len(elsewhere.requests()); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

// TestErrorsAreNotLogged: a backend's error may quote the prompt or a key. The client
// receives the message without the key; the log has neither.
func TestErrorsAreNotLogged(t *testing.T) {
	const quoting = `{"error":{"message":"can't parse: MY PROMPT, key ` + cloudKey + `","type":"server_error"}}`
	for name, behave := range map[string]http.HandlerFunc{
		"error": status(500, quoting), "200": status(200, quoting), "stream": sends(ends, "data: "+quoting+"\n\n"),
		"late": sends(ends, textEvent, "data: "+quoting+"\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, behave, behave)
			r := b.chat("local/qwen", strings.Contains(name, "a"))
			if name != "late" && (!strings.Contains(r.body, "MY PROMPT") || strings.Contains(r.body, cloudKey) && !strings.Contains(r.body, "[key]")) {
				t.Errorf("the client received %s", r.body)
			}
			if log := b.log.String(); strings.Contains(log, "MY PROMPT") || strings.Contains(log, cloudKey) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestKeyInRepeatedHeader: a key that a backend repeats in several values of a header is
// removed from each.
func TestKeyInRepeatedHeader(t *testing.T) {
	b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Echo"] = []string{"a " + r.Header.Get("Authorization"), "b " + r.Header.Get("Authorization"), "c"}
		status(400, `{"error":{"message":"no"}}`)(w, r)
	})
	r := b.chat("gpt-4o", false)
	if got := strings.Join(r.header["X-Echo"], ", "); r.status != 400 || got != "a Bearer [key], b Bearer [key], c" {
		t.Errorf("%d, %q", r.status, got)
	}
}

// TestUpstreamKeyIsRedacted: the upstream's key is removed where the upstream quotes it,
// in a body, a header or a stream.
func TestUpstreamKeyIsRedacted(t *testing.T) {
	quoted := `{"error":{"message":"the key ` + cloudKey + ` is wrong"}}`
	for name, behave := range map[string]http.HandlerFunc{
		"a body":   status(401, quoted),
		"a header": status(401, `{}`, "X-Debug", "key="+cloudKey),
		"a stream": sends(ends, roleEvent, textEvent, "data: "+quoted+"\n\n"),
	} {
		b := newFixture(t, answers, behave)
		r := b.chat("gpt-4o", name == "a stream")
		all := r.body
		for _, values := range r.header {
			all += strings.Join(values, "\n")
		}
		if strings.Contains(all, cloudKey) || !strings.Contains(all, "[key]") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestOwnShouldRetry: an upstream knows best whether a retry helps. Its header is passed on
// with its error, and counts beside the failures of other backends.
func TestOwnShouldRetry(t *testing.T) {
	drained := func(s *backend.LocalState) { s.Reason, s.Alive = backend.Drained, false }
	for name, tc := range map[string]struct {
		model string
		local http.HandlerFunc
		state func(*backend.LocalState)
		cloud http.HandlerFunc
		want  string
	}{
		"500, no":               {"gpt-4o", nil, nil, status(500, `{}`, "X-Should-Retry", "false"), "false"},
		"400, yes":              {"gpt-4o", nil, nil, status(400, `{}`, "X-Should-Retry", "true"), "true"},
		"500, silent":           {"gpt-4o", nil, nil, status(500, `{}`), "true"},
		"400, silent":           {"gpt-4o", nil, nil, status(400, `{}`), "false"},
		"in an hour":            {"gpt-4o", nil, nil, status(429, `{}`, "Retry-After", "3600"), "false"},
		"local drained, no":     {"local/qwen", nil, drained, status(500, `{}`, "X-Should-Retry", "false"), "false"},
		"local answers 400, no": {"local/qwen", status(400, `{}`), nil, status(500, `{}`, "X-Should-Retry", "false"), "false"},
		"local is lost, no":     {"local/qwen", breaks, nil, status(500, `{}`, "X-Should-Retry", "false"), "true"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.local, tc.cloud)
			if tc.state != nil {
				b.state.edit(tc.state)
			}
			if r := b.chat(tc.model, false); r.header.Get("X-Should-Retry") != tc.want {
				t.Errorf("%+v, want %s", r, tc.want)
			}
		})
	}
}

// TestServerHasExitedSince: whether a retry helps after a lost connection depends on what has
// become of the server when the fallback has failed, too.
func TestServerHasExitedSince(t *testing.T) {
	for reason, tc := range map[backend.Reason]struct {
		status       int
		after, retry string
	}{
		"":                 {502, "", "true"},
		backend.Restarting: {503, "5", "true"},
		backend.Failed:     {502, "", "false"},
	} {
		t.Run(string(reason), func(t *testing.T) {
			b := newFixture(t, nil, status(401, `{"error":{"message":"no key"}}`))
			b.local.handler = func(w http.ResponseWriter, r *http.Request) {
				b.state.edit(func(s *backend.LocalState) { s.Reason, s.Alive = reason, reason == "" })
				breaks(w, r)
			}
			r := b.chat("local/qwen", false)
			if r.status != tc.status || r.header.Get("Retry-After") != tc.after || r.header.Get("X-Should-Retry") != tc.retry {
				t.Errorf("%+v, want %+v", r, tc)
			}
		})
	}
}
