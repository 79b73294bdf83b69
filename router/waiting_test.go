package router

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// newLoadingServer is a gatedServer that is loading.
func newLoadingServer(t *testing.T, edits ...func(*plan.Config, map[string]models.Route)) *gatedServer {
	t.Helper()
	l := newGatedServer(t, 2, edits...)
	close(l.proceed) // once it has a call, it answers at once
	l.state.transition(loading)
	return l
}

func withoutCloudKey(c *plan.Config, _ map[string]models.Route) {
	c.Upstreams[0].Key, c.Upstreams[0].Missing = "", "set OPENROUTER_API_KEY"
}

// TestCallsWaitForTheServer: a call that no other backend can answer waits while the
// server starts, loads or is being replaced, and is answered by it.
func TestCallsWaitForTheServer(t *testing.T) {
	const chat = `{"model":%q,"user":"x","messages":[]}`
	for name, tc := range map[string]struct {
		path, body, model string
		edit              func(*plan.Config, map[string]models.Route)
	}{
		"no fallback":             {"/v1/chat/completions", chat, "local/alone", nil},
		"the fallback has no key": {"/v1/chat/completions", chat, "local/qwen", withoutCloudKey},
		"not in fallback_on": {"/v1/chat/completions", chat, "local/restricted", func(_ *plan.Config, routes map[string]models.Route) {
			routes["local/restricted"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: models.NewWordList("failed"), Timeout: 5 * time.Second}
		}},
		"over budget": {"/v1/chat/completions", chat, "local/qwen", func(c *plan.Config, _ map[string]models.Route) {
			c.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(1))}}, nil)
		}},
		"only llama-server has it": {"/tokenize", `{"model":%q,"content":"x"}`, "local/qwen", nil},
	} {
		for _, reason := range []backend.Reason{backend.Starting, backend.Loading, backend.Restarting, backend.Draining} {
			t.Run(name+", "+string(reason), func(t *testing.T) {
				t.Parallel()
				l := newLoadingServer(t, func(c *plan.Config, routes map[string]models.Route) {
					if tc.edit != nil {
						tc.edit(c, routes)
					}
				})
				l.state.transition(func(s *backend.LocalState) { loading(s); s.Reason = reason })
				var replies []<-chan reply
				for i := range 3 {
					replies = append(replies, l.startPost(t.Context(), tc.path, fmt.Sprintf(tc.body, tc.model)))
					l.waitQueued(i + 1)
				}
				if n := len(l.local.requests()); n != 0 {
					t.Errorf("a server that is %s got %d calls", reason, n)
				}
				l.state.transition(ready)
				for _, done := range replies {
					if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
						t.Errorf("%+v", r)
					}
				}
				if n := len(l.cloud.requests()); n != 0 {
					t.Errorf("the cloud got %d calls", n)
				}
			})
		}
	}
}

// TestCallsWithAFallbackDoNotWait: they move at once, and are not in the queue.
func TestCallsWithAFallbackDoNotWait(t *testing.T) {
	l := newLoadingServer(t)
	if r := l.chat("local/qwen", false); r.backend() != "openrouter" || r.reason() != "loading" {
		t.Errorf("%+v", r)
	}
}

// TestWaitingForTheServerEnds: what a waiting call gets when the server does not
// become ready.
func TestWaitingForTheServerEnds(t *testing.T) {
	const drained = "is draining: taken out of use by an operator at 10:00, until 12:00"
	for name, tc := range map[string]struct {
		state  func(*backend.LocalState) // that the server enters while the call waits; nil = the timeout passes
		status int
		code   string
		says   string
		retry  int // Retry-After
	}{
		"the timeout passes": {nil, 503, "loading", "qwen is loading, and accepted no call within 100ms; the route local/short has no fallback", 31},
		"it fails": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Failed, "is failed: bad model", false, time.Time{}
			},
			503, "failed", "qwen is failed: bad model", backend.RetryLater,
		},
		"an operator drains it for two hours": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Draining, drained, false, time.Now().Add(2*time.Hour)
			},
			503, "draining", drained, 7200,
		},
		"an operator drains it": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Drained, "is drained: until llmsup resume", false, time.Time{}
			},
			503, "drained", "until llmsup resume", backend.RetryLater,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if tc.state == nil {
				timeout = 100 * time.Millisecond
			}
			l := newLoadingServer(t, func(_ *plan.Config, routes map[string]models.Route) {
				routes["local/short"] = models.Route{Primary: "qwen", Timeout: timeout}
			})
			began := time.Now()
			l.state.transition(func(s *backend.LocalState) { loading(s); s.ReadyAt = time.Now().Add(31 * time.Second) })
			done := l.startChat(t.Context(), "local/short", "x")
			if tc.state != nil {
				l.waitQueued(1)
				l.state.transition(tc.state)
			}
			wantUnavailable(t, <-done, tc.status, tc.code, tc.says, tc.retry, began)
			if tc.state != nil { // a call that comes now receives the same
				wantUnavailable(t, l.chat("local/short", false), tc.status, tc.code, tc.says, tc.retry, began)
			}
			l.waitLoad("empty", func(now Load) bool { return now == Load{Bytes: now.Bytes, Total: now.Total} })
		})
	}
}

// wantUnavailable checks the answer to a call that no backend took. retry is its Retry-After if no time
// has passed since began.
func wantUnavailable(t *testing.T, r reply, status int, code, says string, retry int, began time.Time) {
	t.Helper()
	least := retry
	if retry != backend.RetryLater && retry != wire.RetrySoon { // it is the time that is left
		least -= 1 + int(time.Since(began)/time.Second)
	}
	after, err := strconv.Atoi(r.header.Get("Retry-After"))
	e := gjson.Get(r.body, "error")
	if r.status != status || e.Get("code").Str != code || r.reason() != code || !strings.Contains(e.Get("message").Str, says) ||
		err != nil || after < least || after > retry {
		t.Errorf("%d, Retry-After %s, X-Llmsup-backend.Reason %s: %s\nwant %d %s, %q, Retry-After %d to %d",
			r.status, r.header.Get("Retry-After"), r.reason(), r.body, status, code, says, least, retry)
	}
}

// TestFullQueueOfALoadingServer: a call beyond the queue's limit receives 503, with the
// time until the server is expected.
func TestFullQueueOfALoadingServer(t *testing.T) {
	l := newLoadingServer(t)
	began := time.Now()
	l.state.transition(func(s *backend.LocalState) { loading(s); s.ReadyAt = time.Now().Add(2 * time.Minute) })
	ctx, cancel := context.WithCancel(t.Context())
	var waiting []<-chan reply
	for i := range backend.AssumedSlots * (1 + backend.QueuePerSlot) {
		waiting = append(waiting, l.startChat(ctx, "local/alone", "x"))
		l.waitQueued(i + 1)
	}
	rejected := l.chat("local/alone", false)
	wantUnavailable(t, rejected, 503, "loading", "qwen is loading, and its queue is full", 120, began)
	if rejected.queue() != "21" {
		t.Errorf("its place is %q", rejected.queue())
	}
	cancel()
	for _, done := range waiting {
		<-done
	}
	l.waitQueued(0)
	last := l.startChat(t.Context(), "local/alone", "x")
	l.waitQueued(1)
	l.state.transition(ready)
	if r := <-last; r.status != 200 {
		t.Errorf("after the others closed their connections: %+v", r)
	}
}

// TestQueueSurvivesRestart: queued calls keep their order while the process is replaced;
// the call that has a slot ends on the old process.
func TestQueueSurvivesRestart(t *testing.T) {
	l := newGatedServer(t, 1)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	var replies []<-chan reply
	for i := range 4 {
		replies = append(replies, l.startChat(t.Context(), "local/alone", fmt.Sprint(i)))
		if i == 0 {
			<-l.arrived
		} else {
			l.waitQueued(i)
		}
	}
	l.state.transition(func(s *backend.LocalState) {
		loading(s)
		s.Reason, s.Detail = backend.Draining, "is draining: a restart was asked for"
	})
	l.proceed <- struct{}{}
	if r := <-replies[0]; r.status != 200 {
		t.Errorf("the running call: %+v", r)
	}
	l.state.transition(loading)
	l.waitQueued(3)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	for i := range 3 {
		if user := <-l.arrived; user != fmt.Sprint(i+1) {
			t.Errorf("call %d is the %s", i+1, user)
		}
		l.proceed <- struct{}{}
	}
	for _, done := range replies[1:] {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestExplainWait: llmsup route says that a call would wait.
func TestExplainWait(t *testing.T) {
	l := newLoadingServer(t)
	e := l.router.Explain("local/alone")
	if e.Backend != "qwen" || e.WaitFor != "qwen is loading" || e.Reason != "" || e.Rejected != "" {
		t.Errorf("%+v", e)
	}
	if e := l.router.Explain("local/qwen"); e.Backend != "openrouter" || e.WaitFor != "" {
		t.Errorf("%+v", e)
	}
}

// TestClientGoneWhileLoading: a client that closes its connection leaves the queue while
// the server loads.
func TestClientGoneWhileLoading(t *testing.T) {
	l := newLoadingServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := l.startChat(ctx, "local/alone", "x")
	l.waitQueued(1)
	cancel()
	<-done
	l.waitQueued(0)
	if n := len(l.local.requests()); n != 0 {
		t.Errorf("the server got %d calls", n)
	}
}

// TestWaitingCallMovesOnNewReason: a call that waits because fallback_on does not have the
// present reason moves when a reason comes that it has.
func TestWaitingCallMovesOnNewReason(t *testing.T) {
	l := newLoadingServer(t, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/restricted"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: models.NewWordList("failed", "draining"), Timeout: time.Minute}
	})
	for _, reason := range []backend.Reason{backend.Failed, backend.Draining} {
		done := l.startChat(t.Context(), "local/restricted", "x")
		l.waitQueued(1)
		l.state.transition(func(s *backend.LocalState) { s.Reason, s.Detail, s.Returning = reason, "is "+string(reason), false })
		if r := <-done; r.backend() != "openrouter" || r.reason() != string(reason) {
			t.Errorf("%s: %+v", reason, r)
		}
		l.state.transition(loading)
	}
}

// TestFallbackFailsWhileLoading: a call whose fallback fails waits for the server,
// unless the fallback found the request to be wrong.
func TestFallbackFailsWhileLoading(t *testing.T) {
	for name, tc := range map[string]struct {
		cloud http.HandlerFunc
		waits bool
	}{
		"no credit":     {status(402, `{"error":{"message":"no credit"}}`), true},
		"broken":        {breaks, true},
		"wrong request": {status(400, `{"error":{"message":"messages is empty"}}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoadingServer(t)
			l.cloud.mu.Lock()
			l.cloud.handler = tc.cloud
			l.cloud.mu.Unlock()
			done := l.startChat(t.Context(), "local/qwen", "x")
			if !tc.waits {
				if r := <-done; r.status != 400 || r.backend() != "openrouter" || r.reason() != "loading" {
					t.Errorf("%+v", r)
				}
				return
			}
			l.waitQueued(1)
			l.state.transition(ready)
			if r := <-done; r.status != 200 || r.backend() != "qwen" {
				t.Errorf("%+v", r)
			}
			if n := len(l.cloud.requests()); n != 1 {
				t.Errorf("the cloud got %d calls", n)
			}
		})
	}
}

// newLoadingServerWithFallback adds a second server, mail, which is the fallback of qwen.
func newLoadingServerWithFallback(t *testing.T, edit func(*backend.LocalState)) (*gatedServer, *fakeLocal) {
	t.Helper()
	mail := &fakeLocal{}
	l := newLoadingServer(t, func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["mail"] = mail
		routes["local/pair"] = models.Route{Primary: "qwen", Fallback: "mail", Timeout: waitLimit}
	})
	mail.edit(func(s *backend.LocalState) { *s = l.state.State() })
	mail.transition(edit)
	return l, mail
}

// TestFallbackIsUsedWhileLoading: while the primary loads, its fallback is used even if it
// is degraded, and is asked again after a 429.
func TestFallbackIsUsedWhileLoading(t *testing.T) {
	l, _ := newLoadingServerWithFallback(t, func(s *backend.LocalState) { ready(s); s.Reason, s.Detail = backend.Degraded, "is degraded: hot" })
	if r := l.chat("local/pair", false); r.status != 200 || r.backend() != "mail" || r.reason() != "loading" {
		t.Errorf("a degraded fallback: %+v", r)
	}
	var asked atomic.Int64
	l.cloud.mu.Lock()
	l.cloud.handler = func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			status(429, `{"error":{"message":"busy"}}`, "Retry-After", "0")(w, r)
			return
		}
		answers(w, r)
	}
	l.cloud.mu.Unlock()
	if r := l.chat("local/qwen", false); r.status != 200 || r.backend() != "openrouter" || asked.Load() != 2 {
		t.Errorf("a busy fallback, asked %d times: %+v", asked.Load(), r)
	}
}

// TestCallsWaitForTheFallback: if the primary takes no calls, or fails, a call waits for a
// fallback that is a restarting server.
func TestCallsWaitForTheFallback(t *testing.T) {
	for name, tc := range map[string]struct {
		primary func(*backend.LocalState)
		reason  string
	}{
		"drained": {func(s *backend.LocalState) {
			loading(s)
			s.Reason, s.Detail, s.Returning = backend.Drained, "is drained", false
		}, "drained"},
		"fails": {ready, "status"},
	} {
		t.Run(name, func(t *testing.T) {
			l, mail := newLoadingServerWithFallback(t, func(s *backend.LocalState) { loading(s); s.Reason, s.Detail = backend.Restarting, "is restarting" })
			l.local.mu.Lock()
			working := l.local.handler
			l.local.handler = status(500, `{"error":{"message":"no"}}`)
			l.local.mu.Unlock()
			l.state.transition(tc.primary)
			done := l.startChat(t.Context(), "local/pair", "x")
			eventually(t, "the call waits for mail", func() bool { return l.router.Load("mail").Queued == 1 })
			l.local.mu.Lock()
			l.local.handler = working
			l.local.mu.Unlock()
			mail.transition(ready)
			if r := <-done; r.status != 200 || r.backend() != "mail" || r.reason() != tc.reason {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRestartAfterThePlan: a call that was planned while the server took calls, and
// whose fallback then fails, waits for the server as well.
func TestRestartAfterThePlan(t *testing.T) {
	l := newGatedServer(t, 1)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	first := l.startChat(t.Context(), "local/alone", "first")
	<-l.arrived
	l.cloud.mu.Lock()
	l.cloud.handler = breaks
	l.cloud.mu.Unlock()
	second := l.startChat(t.Context(), "local/qwen", "second")
	l.waitQueued(1)
	l.state.transition(func(s *backend.LocalState) { loading(s); s.Reason, s.Detail = backend.Draining, "is draining" })
	l.proceed <- struct{}{}
	<-first
	l.waitQueued(1)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	<-l.arrived
	l.proceed <- struct{}{}
	if r := <-second; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%+v", r)
	}
}

// TestOverBudgetWhileLoading: a call over budget that waited for the loading server until
// its timeout receives the server's state first: when the server is ready, the call costs
// nothing.
func TestOverBudgetWhileLoading(t *testing.T) {
	l := newLoadingServer(t, func(c *plan.Config, routes map[string]models.Route) {
		c.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(1))}}, nil)
		routes["local/short"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: 100 * time.Millisecond}
	})
	began := time.Now()
	l.state.transition(func(s *backend.LocalState) { loading(s); s.ReadyAt = time.Now().Add(31 * time.Second) })
	wantUnavailable(t, l.chat("local/short", false), 503, "loading", "openrouter was skipped", 31, began)
}

// TestRejectWaiting: when llmsup stops, calls that still wait get an answer.
func TestRejectWaiting(t *testing.T) {
	l := newGatedServer(t, 1)
	l.state.transition(func(s *backend.LocalState) { ready(s); s.Slots = 1 })
	running := l.startChat(t.Context(), "local/alone", "x")
	<-l.arrived
	forSlot := l.startChat(t.Context(), "local/alone", "x")
	l.waitQueued(1)
	l.router.RejectWaiting()
	l.router.RejectWaiting()
	if r := <-forSlot; r.status != 429 || !strings.Contains(r.body, "llmsup is stopping") {
		t.Errorf("%+v", r)
	}
	l.state.transition(loading)
	wantUnavailable(t, l.chat("local/alone", false), 503, "loading", "qwen is loading, and llmsup is stopping", wire.RetrySoon, time.Now())
	l.proceed <- struct{}{}
	if r := <-running; r.status != 200 {
		t.Errorf("the running call: %+v", r)
	}
}
