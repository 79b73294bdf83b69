package router

import (
	"crypto/sha256"
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// newWaitingRoute is a server that is loading, and whose route has a while_loading.
func newWaitingRoute(t *testing.T, w models.WhileLoading, timeout time.Duration, edits ...func(*plan.Config, map[string]models.Route)) *gatedServer {
	t.Helper()
	edits = append(edits, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: timeout, WhileLoading: w}
	})
	return newLoadingServer(t, edits...)
}

// breakCloud makes the fallback fail.
func (l *gatedServer) breakCloud() {
	l.cloud.mu.Lock()
	defer l.cloud.mu.Unlock()
	l.cloud.handler = status(http.StatusPaymentRequired, `{"error":{"message":"no credit"}}`)
}

// TestWhileLoadingMoves: a call that has waited for its model as long as while_loading says
// goes to the fallback.
func TestWhileLoadingMoves(t *testing.T) {
	const short = 50 * time.Millisecond
	for name, tc := range map[string]struct {
		w       models.WhileLoading
		timeout time.Duration
		reason  backend.Reason
	}{
		"wait":                      {models.WaitForTimeout, short, backend.Loading},
		"a duration":                {models.WhileLoading(short), time.Minute, backend.Loading},
		"a duration, unloaded":      {models.WhileLoading(short), time.Minute, backend.Unloaded},
		"a duration, starting":      {models.WhileLoading(short), time.Minute, backend.Starting},
		"a duration, restarting":    {models.WhileLoading(short), time.Minute, backend.Restarting},
		"fallback":                  {0, time.Minute, backend.Loading},
		"draining, so without wait": {models.WaitForTimeout, time.Minute, backend.Draining},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newWaitingRoute(t, tc.w, tc.timeout)
			l.state.transition(func(s *backend.LocalState) { s.Reason = tc.reason })
			began := time.Now()
			r := l.chat("local/qwen", false)
			if r.status != 200 || r.backend() != "openrouter" || r.reason() != string(tc.reason) {
				t.Errorf("%+v", r)
			}
			waited := time.Since(began)
			if waits := tc.w != 0 && tc.reason != backend.Draining; waits && waited < short || waited >= time.Minute {
				t.Errorf("it moved after %s", waited)
			}
			if n := len(l.local.requests()); n != 0 {
				t.Errorf("the server got %d calls", n)
			}
			l.waitLoad("none waits", func(now Load) bool { return now.ForModel == 0 && now.Queued == 0 })
		})
	}
}

// TestWhileLoadingWaits: a call that waits for its model is answered by it, and leaves at once
// for a reason for which calls do not wait.
func TestWhileLoadingWaits(t *testing.T) {
	failing := func(s *backend.LocalState) {
		s.Reason, s.Detail, s.Returning = backend.Failed, "has failed", false
	}
	draining := func(s *backend.LocalState) { s.Reason, s.Detail = backend.Draining, "is draining" }
	for name, tc := range map[string]struct {
		w       models.WhileLoading
		then    func(*backend.LocalState)
		backend string
	}{
		"wait, ready":           {models.WaitForTimeout, ready, "qwen"},
		"a duration, ready":     {models.WhileLoading(time.Minute), ready, "qwen"},
		"wait, fails":           {models.WaitForTimeout, failing, "openrouter"},
		"a duration, fails":     {models.WhileLoading(time.Minute), failing, "openrouter"},
		"wait, is drained":      {models.WaitForTimeout, draining, "openrouter"},
		"a duration, restarted": {models.WhileLoading(time.Minute), draining, "openrouter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newWaitingRoute(t, tc.w, time.Minute)
			l.state.transition(unloaded)
			done := l.startChat(t.Context(), "local/qwen", "x")
			l.waitQueued(1)
			l.state.transition(loading) // a reason for which it waits, too
			l.waitLoad("it waits on", func(now Load) bool { return now.ForModel == 1 })
			l.state.transition(tc.then)
			if r := <-done; r.status != 200 || r.backend() != tc.backend {
				t.Errorf("%+v", r)
			}
			wantWants(t, l.state, true)
		})
	}
}

// TestWhileLoadingKeepsWaiting: calls that no fallback may answer wait on after the duration.
func TestWhileLoadingKeepsWaiting(t *testing.T) {
	const limit = 20 * time.Millisecond
	freeOnly := func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Keys = []access.Key{{Name: "free", SHA256: sha256.Sum256([]byte("k")), FreeOnly: true}}
	}
	for name, tc := range map[string]struct {
		body  string
		edits []func(*plan.Config, map[string]models.Route)
		cloud int // requests
	}{
		"free_only":               {`{"model":"local/qwen","messages":[]}`, []func(*plan.Config, map[string]models.Route){freeOnly}, 0},
		"a local field":           {`{"model":"local/qwen","messages":[],"grammar":"root ::= \"a\""}`, nil, 0},
		"the fallback fails":      {`{"model":"local/qwen","messages":[]}`, nil, 1},
		"the fallback has no key": {`{"model":"local/qwen","messages":[]}`, []func(*plan.Config, map[string]models.Route){withoutCloudKey}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newWaitingRoute(t, models.WhileLoading(limit), time.Minute, tc.edits...)
			l.breakCloud()
			done := make(chan reply, 1)
			go func() { done <- l.post("/v1/chat/completions", tc.body, "Authorization", "Bearer k") }()
			l.waitQueued(1)
			outlast(limit)
			l.waitQueued(1)
			l.state.transition(ready)
			if r := <-done; r.status != 200 || r.backend() != "qwen" {
				t.Errorf("%+v", r)
			}
			if n := len(l.cloud.requests()); n != tc.cloud {
				t.Errorf("the cloud got %d calls, want %d", n, tc.cloud)
			}
		})
	}
}

// TestWhileLoadingWaitsOnce: a call that has waited until its timeout, and whose fallback then
// fails, does not wait a second time.
func TestWhileLoadingWaitsOnce(t *testing.T) {
	l := newWaitingRoute(t, models.WaitForTimeout, time.Second) // from the call's beginning until it waits
	l.state.transition(unloaded)
	l.breakCloud()
	if r := l.chat("local/qwen", false); r.status != 503 {
		t.Errorf("%+v", r)
	}
	wantWants(t, l.state, true)
}
