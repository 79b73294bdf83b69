package router

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestLate503: a 503 means that nothing was generated if it comes at once or with
// Retry-After. After any other 503 the call goes to no paid upstream again.
func TestLate503(t *testing.T) {
	for name, tc := range map[string]struct {
		late       bool
		retryAfter string
		repeated   bool
	}{
		"at once":           {false, "", true},
		"late":              {true, "", false},
		"late, Retry-After": {true, "0", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problem := ""
			for range 5 { // an answer at once is late, too, if the machine is busy
				if problem = wantRetried(t, tc.late, tc.retryAfter, tc.repeated); problem == "" || tc.late {
					break
				}
			}
			if problem != "" {
				t.Error(problem)
			}
		})
	}
}

// wantRetried makes calls at an upstream that answers with 503, and returns what is wrong with how often
// it and a second one are asked.
func wantRetried(t *testing.T, late bool, retryAfter string, repeated bool) (problem string) {
	t.Helper()
	behave := func(w http.ResponseWriter, r *http.Request) {
		if late { // a generation that is aborted
			outlast(backend.DeclinesWithin)
		}
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	second := newFakeBackend(t, answers)
	b := newFixture(t, answers, behave, func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k"})
		routes["two-clouds"] = models.Route{Primary: "openrouter", Fallback: "second", Timeout: time.Minute}
	})
	want, status, asked := 1, http.StatusServiceUnavailable, 0
	if repeated {
		want, status, asked = 1+backend.MaxRetries, http.StatusOK, 1
	}
	if r := b.chat("gpt-4o", false); r.status != 503 || len(b.cloud.requests()) != want {
		problem = fmt.Sprintf("alone: %d after %d calls, want %d: %s\n", r.status, len(b.cloud.requests()), want, r.body)
	}
	if r := b.chat("two-clouds", false); r.status != status || len(second.requests()) != asked {
		problem += fmt.Sprintf("with a second paid upstream: %d, and that was asked %d times, want %d: %s", r.status, len(second.requests()), asked, r.body)
	}
	return problem
}

// TestReservationOutlivesRetries: a call's reservation stays until the last retry has
// ended.
func TestReservationOutlivesRetries(t *testing.T) {
	edit, acct := withLedger(t, accountingtest.Daily("100"))
	var n atomic.Int32
	b := newFixture(t, answers, func(w http.ResponseWriter, _ *http.Request) {
		if s := acct.Budget.Statuses(time.Now()); len(s) != 1 || s[0].Reserved == 0 {
			t.Errorf("while the upstream is asked: %+v", s)
		}
		rejectUntil(w, n.Add(1), 1+backend.MaxRetries, 503, "0")
	}, edit)
	if r := b.chat("gpt-4o", false); r.status != 200 || n.Load() != 1+backend.MaxRetries {
		t.Errorf("%d after %d calls: %s", r.status, n.Load(), r.body)
	}
	if s := acct.Budget.Statuses(time.Now()); s[0].Reserved != 0 {
		t.Errorf("after the call: %+v", s)
	}
}
