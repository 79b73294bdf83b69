package outcome

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// answered is a backend that answered with an error.
func answered(status int, body string) *backend.Failure {
	return &backend.Failure{
		Backend: "b", Reason: backend.Status, Detail: fmt.Sprintf("answered %d", status), Response: &backend.Response{Status: status, Body: []byte(body)},
	}
}

const overflow = `{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":10}}`

// failures are the ways in which a backend does not answer, by kind. Each is tried beside
// each other.
var failures = map[Kind]map[string]*backend.Failure{
	Rejected: {"overflow": answered(400, overflow), "413": answered(413, `{"error":{"message":"too large"}}`), "422": answered(422, `{"error":{"message":"no"}}`)},
	Operator: {
		"401": answered(401, `{}`), "402": answered(402, ``), "403": answered(403, `{}`), "404": answered(404, `{"error":"no"}`),
		"no credit": answered(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`),
		"501":       answered(501, `{}`), "508": answered(508, `{}`), "redirect": answered(307, ``),
		"drained": {Backend: "b", Reason: backend.Drained, Detail: "is drained", RetryAfter: 60, NeedsOperator: true},
		"failed":  {Backend: "b", Reason: backend.Failed, Detail: "is failed", RetryAfter: 60, NeedsOperator: true},
	},
	Temporary: {
		"429": answered(429, `{}`), "408": answered(408, `{}`), "500": answered(500, `{}`), "502": answered(502, `{}`), "503": answered(503, `{}`), "529": answered(529, `{}`),
		"lost":      {Backend: "b", Reason: backend.Lost, Detail: "lost the connection"},
		"timeout":   {Backend: "b", Reason: backend.Timeout, Detail: "did not answer"},
		"saturated": {Backend: "b", Reason: backend.Saturated, Detail: "is full", RetryAfter: 3},
		"loading":   {Backend: "b", Reason: backend.Loading, Detail: "is loading"},
		"bad":       {Backend: "b", Reason: backend.BadResponse, Detail: "answered 200 without an answer"},
	},
}

// eachPair calls a test with each pair of failures, and the earlier one asked or bypassed. A
// backend that was bypassed has not answered anything.
func eachPair(t *testing.T, test func(t *testing.T, first, last Cause)) {
	t.Helper()
	for k1, of1 := range failures {
		for n1, f1 := range of1 {
			for k2, of2 := range failures {
				for n2, f2 := range of2 {
					for _, bypassed := range []bool{false, true} {
						first, last := Cause{f1, true, bypassed}, Cause{f2, false, false}
						if first.Kind() != k1 || last.Kind() != k2 {
							t.Fatalf("%s is %s, %s is %s", n1, first.Kind(), n2, last.Kind())
						}
						if bypassed && f1.Response != nil {
							continue
						}
						t.Run(fmt.Sprintf("%s, then %s, bypassed %t", n1, n2, bypassed), func(t *testing.T) { test(t, first, last) })
					}
				}
			}
		}
	}
}

// TestOfPairs: the table in Of, for each pair of failures of a primary and its fallback.
func TestOfPairs(t *testing.T) {
	eachPair(t, func(t *testing.T, first, last Cause) {
		a := Of(Call{Causes: []Cause{first, last}})
		status, retry := a.Error.Status, a.Error.RetryHelps()
		if a.Forward != nil {
			status, retry = a.Forward.Response.Status, a.Retry
		}
		if want := wantStatus(first, last); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
		if want := last.Kind() != Rejected && (first.Kind() == Temporary || last.Kind() == Temporary); retry != want {
			t.Errorf("retry %t, want %t", retry, want)
		}
		unchanged := first.Bypassed && last.Response != nil && last.Kind() != Operator
		if unchanged != (a.Forward != nil && a.Note == "") {
			t.Errorf("forwarded unchanged: %t, want %t", !unchanged, unchanged)
		}
		if a.Forward == nil && a.Error.Message != first.ClientMessage()+"; then "+last.ClientMessage() && a.Error.Message != first.ClientMessage()+"; "+last.ClientMessage() {
			t.Errorf("message %q", a.Error.Message)
		}
	})
}

// wantStatus is the status after a primary and its fallback have failed, row by row as in the
// README.
func wantStatus(first, last Cause) int {
	wait := first.RetryAfter > 0 || first.Reason == backend.Loading
	switch {
	case last.Kind() == Rejected && first.Kind() != Rejected, last.Kind() == Temporary:
		return last.HTTPStatus()
	case first.Kind() == Rejected:
		return first.HTTPStatus()
	case last.Response == nil:
		return http.StatusServiceUnavailable
	case first.Kind() == Temporary && wait:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// TestOfOne: a route with one backend. Its own error is passed on byte for byte.
func TestOfOne(t *testing.T) {
	for kind, of := range failures {
		for name, f := range of {
			a := Of(Call{Causes: []Cause{{f, true, false}}, Skipped: "the route r has no fallback"})
			if f.Response != nil && f.Response.Status >= 400 {
				if a.Forward != f || a.Note != "" || string(a.Body()) != string(f.Response.Body) || a.Retry != (kind == Temporary) {
					t.Errorf("%s: %+v", name, a)
				}
				continue
			}
			want := f.HTTPStatus()
			if a.Error.Status != want || a.Error.RetryHelps() != (kind == Temporary) || a.Error.Code != string(f.Reason) || a.Error.Message != f.ClientMessage()+"; the route r has no fallback" {
				t.Errorf("%s: %+v", name, a.Error)
			}
		}
	}
}

// TestOfThree: with more fallbacks a retry helps as long as one backend may answer later.
func TestOfThree(t *testing.T) {
	over, lost, key := failures[Rejected]["overflow"], failures[Temporary]["lost"], failures[Operator]["401"]
	for name, tc := range map[string]struct {
		causes []*backend.Failure
		status int
		retry  bool
	}{
		"a rejection and two keys":     {[]*backend.Failure{over, key, key}, 400, false},
		"a rejection in the middle":    {[]*backend.Failure{key, over, key}, 400, false},
		"a lost one in the middle":     {[]*backend.Failure{over, lost, key}, 502, true},
		"a rejection at the end":       {[]*backend.Failure{lost, key, over}, 400, false},
		"nothing but operator's":       {[]*backend.Failure{key, failures[Operator]["failed"], key}, 502, false},
		"a lost one and two rejecting": {[]*backend.Failure{lost, over, failures[Rejected]["413"]}, 400, false},
	} {
		var c Call
		for i, f := range tc.causes {
			c.Causes = append(c.Causes, Cause{f, i == 0, false})
		}
		a := Of(c)
		status, retry := a.Error.Status, a.Error.RetryHelps()
		if a.Forward != nil {
			status, retry = a.Forward.Response.Status, a.Retry
		}
		if status != tc.status || retry != tc.retry {
			t.Errorf("%s: %d, retry %t", name, status, retry)
		}
	}
}

// TestBudget: a budget that is used up is like a fallback that only the operator can fix,
// unless calls in flight may free it.
func TestBudget(t *testing.T) {
	budget := wire.Error{Status: 429, Type: wire.TypeQuota, Code: wire.CodeOverBudget, Message: "the daily budget is used up", RetryAfter: 7200}
	for kind, of := range failures {
		for name, f := range of {
			for _, reserved := range []bool{false, true} {
				c := Call{Causes: []Cause{{f, true, false}}, OverBudget: budget, Reserved: reserved}
				a := Of(c)
				switch {
				case kind == Rejected && !reserved:
					if a.Forward != f || a.Retry || !strings.Contains(string(a.Body()), "; the daily budget is used up") {
						t.Errorf("%s: %+v %s", name, a, a.Body())
					}
				case a.Error.Code != wire.CodeOverBudget || a.Error.Message != f.ClientMessage()+"; the daily budget is used up":
					t.Errorf("%s: %+v", name, a)
				case (a.Error.RetryAfter <= 60) != (kind == Temporary):
					t.Errorf("%s: Retry-After %d", name, a.Error.RetryAfter)
				}
			}
		}
	}
}

// TestBody: a note changes nothing but the message, whose own words come first.
func TestBody(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"llama-server's": {overflow, `{"error":{"code":400,"message":"too long; then b answered 401","type":"exceed_context_size_error","n_ctx":10}}`},
		"Anthropic's":    {`{"type": "error", "error": {"type": "x", "message": "prompt is too long: 9 > 8"}}`, `{"type": "error", "error": {"type": "x", "message": "prompt is too long: 9 > 8; then b answered 401"}}`},
		"quotes":         {`{"a":1e400,"error":{"message":"say \"x\"\n"},"a":2}`, `{"a":1e400,"error":{"message":"say \"x\"\n; then b answered 401"},"a":2}`},
		"no message":     {`{"error":{"type":"x"}}`, ""},
		"a text":         {`{"error":"no"}`, ""},
		"no JSON":        {`{"error":{"message":"x"}`, ""},
		"nothing":        {``, ""},
	} {
		a := Of(Call{Causes: []Cause{{answered(400, tc.body), true, false}, {answered(401, ""), false, false}}})
		switch {
		case tc.want != "" && (a.Forward == nil || string(a.Body()) != tc.want):
			t.Errorf("%s: %+v", name, a)
		case tc.want == "" && (a.Error.Status != 400 || a.Error.Type != wire.TypeInvalid || a.Error.RetryHelps() || !strings.HasSuffix(a.Error.Message, "; then b answered 401")):
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// TestBackendSaysWhetherToRetry: its x-should-retry counts for more than its status.
func TestBackendSaysWhetherToRetry(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		header string
		want   Kind
	}{
		"429, no": {429, "false", Operator}, "400, no": {400, "false", Rejected}, "401, no": {401, "false", Operator},
		"409, yes": {409, "true", Temporary}, "400, yes": {400, "true", Temporary}, "500, odd": {500, "perhaps", Temporary},
	} {
		f := answered(tc.status, `{}`)
		f.Response.Header = http.Header{wire.HeaderShouldRetry: {tc.header}}
		if got := (Cause{Failure: f}).Kind(); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestAsError: a backend's own error as an event of llmsup's.
func TestAsError(t *testing.T) {
	redact := func(text string) string { return strings.ReplaceAll(text, "secret", "[key]") }
	for name, tc := range map[string]struct {
		status     int
		body, note string
		want       wire.Error
	}{
		"all of it":  {400, `{"error":{"message":"no","type":"invalid_request_error","code":"x","param":"n"}}`, "", wire.Error{Status: 400, Type: "invalid_request_error", Code: "x", Message: "no", Param: "n"}},
		"a number":   {500, `{"error":{"message":"no","code":500}}`, "", wire.Error{Status: 500, Type: wire.TypeServer, Code: "500", Message: "no"}},
		"a note":     {400, `{"error":{"message":"no"}}`, "; then b failed", wire.Error{Status: 400, Type: wire.TypeInvalid, Code: "status", Message: "no; then b failed"}},
		"no message": {404, `not here`, "", wire.Error{Status: 404, Type: wire.TypeInvalid, Code: "status", Message: "b answered 404"}},
		"a key":      {500, `{"error":{"message":"secret is wrong"}}`, "", wire.Error{Status: 500, Type: wire.TypeServer, Code: "status", Message: "[key] is wrong"}},
	} {
		f := answered(tc.status, tc.body)
		if got := (Answer{Forward: f, Note: tc.note}).AsError(redact); got != tc.want {
			t.Errorf("%s: %+v\nwant %+v", name, got, tc.want)
		}
	}
}
