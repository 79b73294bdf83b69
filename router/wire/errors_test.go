package wire

import (
	"net/http/httptest"
	"testing"
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
