package router

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestLate503: a 503 says that nothing was generated if it comes at once, or with
// Retry-After. After any other one the call goes to no paid upstream again.
func TestLate503(t *testing.T) {
	// after is what the upstream lets pass before its 503: a generation that breaks off.
	const after = backend.DeclinesWithin + 100*time.Millisecond
	for name, tc := range map[string]struct {
		after      time.Duration
		retryAfter string
		repeated   bool
	}{
		"at once":           {0, "", true},
		"late":              {after, "", false},
		"late, Retry-After": {after, "0", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behave := func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(tc.after)
				if tc.retryAfter != "" {
					w.Header().Set("Retry-After", tc.retryAfter)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			second := newPeer(t, answers)
			b := newBench(t, answers, behave, func(c *plan.Config, routes map[string]models.Route) {
				c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k"})
				routes["two-clouds"] = models.Route{Primary: "openrouter", Fallback: "second", Timeout: time.Minute}
			})
			want, status, asked := 1, http.StatusServiceUnavailable, 0
			if tc.repeated {
				want, status, asked = 1+backend.MaxRetries, http.StatusOK, 1
			}
			if r := b.chat("gpt-4o", false); r.status != 503 || len(b.cloud.calls()) != want {
				t.Errorf("alone: %d after %d calls, want %d: %s", r.status, len(b.cloud.calls()), want, r.body)
			}
			if r := b.chat("two-clouds", false); r.status != status || len(second.calls()) != asked {
				t.Errorf("with a second paid upstream: %d, and that was asked %d times, want %d: %s", r.status, len(second.calls()), asked, r.body)
			}
		})
	}
}

// TestReservationOutlivesRepeats: what is set aside for a call stays so until it is
// known how the call ends.
func TestReservationOutlivesRepeats(t *testing.T) {
	edit, books := withBooks(t, accountingtest.Daily("100"))
	var n atomic.Int32
	b := newBench(t, answers, func(w http.ResponseWriter, _ *http.Request) {
		if s := books.Budget.Statuses(time.Now()); len(s) != 1 || s[0].Reserved == 0 {
			t.Errorf("while the upstream is asked: %+v", s)
		}
		refuseUntil(w, n.Add(1), 1+backend.MaxRetries, 503, "0")
	}, edit)
	if r := b.chat("gpt-4o", false); r.status != 200 || n.Load() != 1+backend.MaxRetries {
		t.Errorf("%d after %d calls: %s", r.status, n.Load(), r.body)
	}
	if s := books.Budget.Statuses(time.Now()); s[0].Reserved != 0 {
		t.Errorf("after the call: %+v", s)
	}
}
