package wire

import (
	"net/http/httptest"
	"testing"

	"github.com/tidwall/gjson"
)

// TestShouldRetry: each error says whether the same request may succeed later.
func TestShouldRetry(t *testing.T) {
	for name, tc := range map[string]struct {
		e    Error
		want string
	}{
		"400": {Error{Status: 400}, "false"}, "401": {Error{Status: 401}, "false"}, "403": {Error{Status: 403}, "false"},
		"404": {Error{Status: 404}, "false"}, "405": {Error{Status: 405}, "false"}, "408": {Error{Status: 408}, "true"},
		"413": {Error{Status: 413}, "false"}, "415": {Error{Status: 415}, "false"}, "429": {Error{Status: 429}, "true"},
		"500": {Error{Status: 500}, "true"}, "501": {Error{Status: 501}, "false"}, "502": {Error{Status: 502}, "true"},
		"503": {Error{Status: 503}, "true"}, "504": {Error{Status: 504}, "true"}, "508": {Error{Status: 508}, "false"},
		"a definite 503":      {Error{Status: 503, RetryAfter: 5, Definite: true}, "false"},
		"in a minute":         {Error{Status: 503, RetryAfter: 60}, "true"},
		"in over a minute":    {Error{Status: 503, RetryAfter: 61}, "false"},
		"a budget until then": {Error{Status: 429, RetryAfter: 7200}, "false"},
	} {
		w := httptest.NewRecorder()
		WriteError(w, Chat, tc.e)
		if got := w.Header().Get("x-should-retry"); got != tc.want {
			t.Errorf("%s: %q, want %s", name, got, tc.want)
		}
	}
}

// TestAnthropicErrorTypes: each status has the type that Anthropic's reference gives it.
func TestAnthropicErrorTypes(t *testing.T) {
	for want, errors := range map[string][]Error{
		"invalid_request_error": {{Status: 400}, {Status: 405}, {Status: 409}, {Status: 415}, {Status: 422}},
		"authentication_error":  {{Status: 401}},
		"billing_error":         {{Status: 402}},
		"permission_error":      {{Status: 403}},
		"not_found_error":       {{Status: 404}},
		"timeout_error":         {{Status: 408}, {Status: 504}},
		"request_too_large":     {{Status: 413}},
		"rate_limit_error":      {{Status: 429}, {Status: 429, RetryAfter: 7200}},
		"api_error":             {{Status: 500}, {Status: 501}, {Status: 502}, {Status: 508}, {Status: 503, Definite: true}},
		"overloaded_error":      {{Status: 503}, {Status: 529}},
	} {
		for _, e := range errors {
			if got := gjson.GetBytes(Messages{}.ErrorBody(e), "error.type").Str; got != want {
				t.Errorf("%+v: %q, want %q", e, got, want)
			}
		}
	}
}
