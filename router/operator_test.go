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

// TestOperatorsFault: that a fallback has no good key, credit or model is not told
// to a caller as though he had made a mistake.
func TestOperatorsFault(t *testing.T) {
	const said = `{"error":{"message":"see your account"}}`
	is := func(reason backend.Reason, alive bool) func(*backend.LocalState) {
		return func(s *backend.LocalState) {
			s.Reason, s.Detail, s.Alive = reason, "is not there: "+string(reason), alive
		}
	}
	for name, tc := range map[string]struct {
		local   http.HandlerFunc
		state   func(*backend.LocalState)
		spare   http.HandlerFunc // nil = every status of the operator's
		status  int
		retry   string
		message string // the first cause; "" = the fallback's own error comes through
	}{
		"broken":                    {breaks, nil, nil, 502, "", "qwen broke the connection"},
		"no room":                   {status(429, "{}", "Retry-After", "7"), nil, nil, 503, "7", "qwen answered 429"},
		"the fallback knows better": {status(503, "{}", "Retry-After", "7"), nil, status(402, said, "Retry-After", "60"), 503, "60", "qwen answered 503"},
		"loading, as it says":       {status(503, `{"error":{"message":"Loading model"}}`), nil, nil, 503, "5", "qwen answered 503"},
		"restarting":                {answers, is(backend.Restarting, false), nil, 503, "5", "qwen is not there: restarting"},
		"failed":                    {answers, is(backend.Failed, false), nil, 502, "", "qwen is not there: failed"},
		"the caller's, restarting":  {answers, is(backend.Restarting, false), status(400, said), 400, "", ""},
		"422, restarting":           {answers, is(backend.Restarting, false), status(422, said), 422, "", ""},
		"422":                       {breaks, nil, status(422, said), 422, "", "qwen broke the connection"},
	} {
		spares := map[string]http.HandlerFunc{name: tc.spare}
		if tc.spare == nil {
			spares = map[string]http.HandlerFunc{}
			for _, code := range []int{401, 402, 403, 404} {
				spares[fmt.Sprintf("%s, then %d", name, code)] = status(code, said)
			}
		}
		for name, spare := range spares {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, tc.local, spare)
				if tc.state != nil {
					b.state.set(tc.state)
				}
				r := b.chat("local/qwen", false)
				if r.status != tc.status || r.header.Get("Retry-After") != tc.retry || r.reason() == "" {
					t.Errorf("%+v, want %d and Retry-After %q", r, tc.status, tc.retry)
				}
				if tc.message == "" {
					if r.body != said {
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
