package router

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// unloaded is an edit of a local server's state.
func unloaded(s *backend.LocalState) {
	loading(s)
	s.Reason, s.Detail = backend.Unloaded, "is unloaded: idle for 15 min"
}

// received returns the arguments of all calls of AddDemand so far.
func (f *fakeLocal) received() []bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.wants)
}

// newUnloadedServer is a gatedServer whose model is not loaded, with prices for its fallback.
func newUnloadedServer(t *testing.T, edits ...func(*plan.Config, map[string]models.Route)) *gatedServer {
	t.Helper()
	prices := func(c *plan.Config, _ map[string]models.Route) {
		c.Accounting.Prices = accountingtest.Prices("qwen/qwen-2.5-14b-instruct")
	}
	l := newLoadingServer(t, append(edits, prices)...)
	l.state.transition(unloaded)
	return l
}

func wantWants(t *testing.T, f *fakeLocal, want ...bool) {
	t.Helper()
	if got := f.received(); !slices.Equal(got, want) {
		t.Errorf("the server was told that calls need it (true = and wait) %v, want %v", got, want)
	}
}

// TestUnloadedWithFallback: a call goes to the fallback at once. The router
// reports to the server that the call wanted it, and counts its cost.
func TestUnloadedWithFallback(t *testing.T) {
	l := newUnloadedServer(t)
	for range 2 {
		if r := l.chat("local/qwen", false); r.status != 200 || r.backend() != "openrouter" || r.reason() != "unloaded" {
			t.Errorf("%+v", r)
		}
	}
	wantWants(t, l.state, false, false)
	l.waitIdle()
	if got, want := l.router.Load("qwen").PaidInstead, (plan.PaidInstead{Calls: 2, Charged: accountingtest.USD("0.026")}); got != want {
		t.Errorf("paid instead: %+v, want %+v", got, want)
	}
	l.state.transition(ready)
	if r := l.chat("local/qwen", false); r.backend() != "qwen" {
		t.Errorf("once loaded: %+v", r)
	}
	l.waitIdle()
	wantWants(t, l.state, false, false)
	if got := l.router.Load("qwen").PaidInstead.Calls; got != 2 {
		t.Errorf("a local call was counted as paid: %d", got)
	}
}

// TestUnloadedWithoutFallback: a call waits for the model, and Load has it until it has begun
// or its client has closed the connection.
func TestUnloadedWithoutFallback(t *testing.T) {
	l := newUnloadedServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	gone := l.startChat(ctx, "local/alone", "x")
	l.waitQueued(1)
	first := l.router.Load("qwen")
	if first.ForModel != 1 || first.ForModelSince.Before(began) || first.ForModelSince.After(time.Now()) {
		t.Errorf("%+v", first)
	}
	last := l.startChat(t.Context(), "local/alone", "y")
	l.waitLoad("two wait", func(now Load) bool { return now.ForModel == 2 && now.ForModelSince.Equal(first.ForModelSince) })
	cancel()
	<-gone
	l.waitLoad("one waits", func(now Load) bool { return now.ForModel == 1 && now.ForModelSince.After(first.ForModelSince) })
	wantWants(t, l.state, true, true)
	l.state.transition(loading)
	l.waitLoad("it still waits", func(now Load) bool { return now.ForModel == 1 })
	l.state.transition(ready)
	if r := <-last; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
		t.Errorf("%+v", r)
	}
	l.waitLoad("none waits", func(now Load) bool { return now == Load{Bytes: now.Bytes, Total: now.Total, Service: now.Service} })
	wantWants(t, l.state, true, true)
}

// TestUnloadedFallbackFails: a call whose fallback fails waits for the model.
func TestUnloadedFallbackFails(t *testing.T) {
	l := newUnloadedServer(t)
	l.cloud.mu.Lock()
	l.cloud.handler = status(402, `{"error":{"message":"no credit"}}`)
	l.cloud.mu.Unlock()
	done := l.startChat(t.Context(), "local/qwen", "x")
	l.waitQueued(1)
	wantWants(t, l.state, false, true)
	l.state.transition(ready)
	if r := <-done; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%+v", r)
	}
	l.waitIdle()
	if got := l.router.Load("qwen").PaidInstead.Calls; got != 0 {
		t.Errorf("a call that cost nothing was counted as paid: %d", got)
	}
}

// TestUnloadedEndsWithTheTimeout: Retry-After is the time until the model is expected.
func TestUnloadedEndsWithTheTimeout(t *testing.T) {
	l := newUnloadedServer(t, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/short"] = models.Route{Primary: "qwen", Timeout: 50 * time.Millisecond}
	})
	began := time.Now()
	l.state.transition(func(s *backend.LocalState) { unloaded(s); s.ReadyAt = time.Now().Add(40 * time.Second) })
	wantUnavailable(t, l.chat("local/short", false), 503, "unloaded", "qwen is unloaded: idle for 15 min, and accepted no call within 50ms", 40, began)
	l.waitLoad("none waits", func(now Load) bool { return now == Load{Bytes: now.Bytes, Total: now.Total, Service: now.Service} })
}

// TestSlotWaitIsNotForModel: a call that waits for a slot of a server that is ready does not
// wait for the model.
func TestSlotWaitIsNotForModel(t *testing.T) {
	l := newGatedServer(t, 1)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	first := l.startChat(t.Context(), "local/alone", "x")
	<-l.arrived
	second := l.startChat(t.Context(), "local/alone", "y")
	l.waitQueued(1)
	if now := l.router.Load("qwen"); now.ForModel != 0 || !now.ForModelSince.IsZero() {
		t.Errorf("%+v", now)
	}
	l.state.transition(unloaded) // its model is evicted: now the call waits for it
	l.waitLoad("one waits", func(now Load) bool { return now.ForModel == 1 && !now.ForModelSince.IsZero() })
	l.proceed <- struct{}{}
	<-first
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	<-l.arrived
	l.proceed <- struct{}{}
	if r := <-second; r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// TestUnloadedIsHealthy: a model that a call loads counts as usable, and one that never can be
// loaded does not.
func TestUnloadedIsHealthy(t *testing.T) {
	onlyLocal := func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams[0].Missing = "set KEY"
		for name, route := range routes { // no fallback, and another name
			if route.Fallback, route.FallbackModel = "", ""; route.Primary == "qwen" && name == "local" {
				route.Aliases = []string{"gpt-4o-mini"}
			}
			routes[name] = route
		}
	}
	l := newUnloadedServer(t, onlyLocal)
	if r := l.send("GET", "/health", ""); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	for _, reason := range []backend.Reason{backend.Starting, backend.Loading, backend.Restarting} { // for a call, or in turn
		for onDemand, want := range map[bool]int{false: 503, true: 200} {
			l.state.transition(func(s *backend.LocalState) { unloaded(s); s.Reason, s.OnDemand = reason, onDemand })
			if r := l.send("GET", "/health", ""); r.status != want {
				t.Errorf("%s, on demand %t: %d %s", reason, onDemand, r.status, r.body)
			}
		}
	}
	l.state.transition(func(s *backend.LocalState) { unloaded(s); s.Returning, s.OnDemand = false, true })
	if r := l.send("GET", "/health", ""); r.status != 503 {
		t.Errorf("it cannot be loaded: %d %s", r.status, r.body)
	}
}

// TestNeverLoaded: no client repeats a call for a model that can never be loaded.
func TestNeverLoaded(t *testing.T) {
	l := newUnloadedServer(t)
	l.state.transition(func(s *backend.LocalState) {
		unloaded(s)
		s.Detail, s.Returning = "is unloaded: it cannot be loaded: it needs 30 GiB", false
	})
	r := l.chat("local/alone", false)
	if r.status != 503 || r.header.Get("x-should-retry") != "false" || r.header.Get("Retry-After") != "60" || !strings.Contains(r.body, "it needs 30 GiB") {
		t.Errorf("%+v", r)
	}
	if r := l.chat("local/qwen", false); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("%+v", r)
	}
}
