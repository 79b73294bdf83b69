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

// newWaitingLocal is a bench whose local server is loading.
func newWaitingLocal(t *testing.T, edits ...func(*plan.Config, map[string]models.Route)) *slowLocal {
	t.Helper()
	l := newSlowLocal(t, 2, edits...)
	close(l.let) // once it has a call, it answers at once
	l.state.enter(loads)
	return l
}

func noCloudKey(c *plan.Config, _ map[string]models.Route) {
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
		"the fallback has no key": {"/v1/chat/completions", chat, "local/qwen", noCloudKey},
		"fallback_on leaves it out": {"/v1/chat/completions", chat, "local/picky", func(_ *plan.Config, routes map[string]models.Route) {
			routes["local/picky"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: models.NewWordList("failed"), Timeout: 5 * time.Second}
		}},
		"over budget": {"/v1/chat/completions", chat, "local/qwen", func(c *plan.Config, _ map[string]models.Route) {
			c.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(1))}}, nil)
		}},
		"only llama-server has it": {"/tokenize", `{"model":%q,"content":"x"}`, "local/qwen", nil},
	} {
		for _, reason := range []backend.Reason{backend.Starting, backend.Loading, backend.Restarting, backend.Draining} {
			t.Run(name+", "+string(reason), func(t *testing.T) {
				t.Parallel()
				l := newWaitingLocal(t, func(c *plan.Config, routes map[string]models.Route) {
					if tc.edit != nil {
						tc.edit(c, routes)
					}
				})
				l.state.enter(func(s *backend.LocalState) { loads(s); s.Reason = reason })
				var replies []<-chan reply
				for i := range 3 {
					replies = append(replies, l.sendTo(t.Context(), tc.path, fmt.Sprintf(tc.body, tc.model)))
					l.queued(i + 1)
				}
				if n := len(l.local.calls()); n != 0 {
					t.Errorf("a server that is %s got %d calls", reason, n)
				}
				l.state.enter(takesCalls)
				for _, done := range replies {
					if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
						t.Errorf("%+v", r)
					}
				}
				if n := len(l.cloud.calls()); n != 0 {
					t.Errorf("the cloud got %d calls", n)
				}
			})
		}
	}
}

// TestCallsWithAFallbackDoNotWait: they move at once, and are not in the queue.
func TestCallsWithAFallbackDoNotWait(t *testing.T) {
	l := newWaitingLocal(t)
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
		retry  [2]int // bounds of Retry-After
	}{
		"the timeout passes": {nil, 503, "loading", "qwen is loading, and took no call within 100ms; the route local/hasty has no fallback", [2]int{30, 31}},
		"it fails": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Failed, "is failed: bad model", false, time.Time{}
			},
			503, "failed", "qwen is failed: bad model",
			[2]int{backend.RetryLater, backend.RetryLater},
		},
		"an operator drains it for two hours": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Draining, drained, false, time.Now().Add(2*time.Hour)
			},
			503, "draining", drained,
			[2]int{7199, 7200},
		},
		"an operator drains it": {
			func(s *backend.LocalState) {
				s.Reason, s.Detail, s.Returning, s.ReadyAt = backend.Drained, "is drained: until llmsup resume", false, time.Time{}
			},
			503, "drained", "until llmsup resume",
			[2]int{backend.RetryLater, backend.RetryLater},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if tc.state == nil {
				timeout = 100 * time.Millisecond
			}
			l := newWaitingLocal(t, func(_ *plan.Config, routes map[string]models.Route) {
				routes["local/hasty"] = models.Route{Primary: "qwen", Timeout: timeout}
			})
			l.state.enter(func(s *backend.LocalState) { loads(s); s.ReadyAt = time.Now().Add(31 * time.Second) })
			done := l.call(t.Context(), "local/hasty", "x")
			if tc.state != nil {
				l.queued(1)
				l.state.enter(tc.state)
			}
			wantUnavailable(t, <-done, tc.status, tc.code, tc.says, tc.retry)
			if tc.state != nil { // who comes now is told the same
				wantUnavailable(t, l.chat("local/hasty", false), tc.status, tc.code, tc.says, tc.retry)
			}
			l.until("empty", func(now Load) bool { return now == Load{Bytes: now.Bytes} })
		})
	}
}

func wantUnavailable(t *testing.T, r reply, status int, code, says string, retry [2]int) {
	t.Helper()
	after, err := strconv.Atoi(r.header.Get("Retry-After"))
	e := gjson.Get(r.body, "error")
	if r.status != status || e.Get("code").Str != code || r.reason() != code || !strings.Contains(e.Get("message").Str, says) ||
		err != nil || after < retry[0] || after > retry[1] {
		t.Errorf("%d, Retry-After %s, X-Llmsup-backend.Reason %s: %s\nwant %d %s, %q, Retry-After %v",
			r.status, r.header.Get("Retry-After"), r.reason(), r.body, status, code, says, retry)
	}
}

// TestFullQueueOfALoadingServer: beyond the bound of the queue a call is refused
// with 503, and when the server is expected.
func TestFullQueueOfALoadingServer(t *testing.T) {
	l := newWaitingLocal(t)
	l.state.enter(func(s *backend.LocalState) { loads(s); s.ReadyAt = time.Now().Add(20 * time.Second) })
	ctx, leave := context.WithCancel(t.Context())
	var waiting []<-chan reply
	for i := range backend.AssumedSlots * (1 + backend.QueuePerSlot) {
		waiting = append(waiting, l.call(ctx, "local/alone", "x"))
		l.queued(i + 1)
	}
	wantUnavailable(t, l.chat("local/alone", false), 503, "loading", "qwen is loading, and as many calls wait for it as may", [2]int{19, 20})
	leave()
	for _, done := range waiting {
		<-done
	}
	l.queued(0)
	last := l.call(t.Context(), "local/alone", "x")
	l.queued(1)
	l.state.enter(takesCalls)
	if r := <-last; r.status != 200 {
		t.Errorf("after the others have left: %+v", r)
	}
}

// TestQueueOutlastsARestart: calls that wait for a slot keep their order while the
// process is replaced; the call that has a slot ends on the old process.
func TestQueueOutlastsARestart(t *testing.T) {
	l := newSlowLocal(t, 1)
	l.state.enter(func(s *backend.LocalState) { takesCalls(s); s.Slots = 1 })
	var replies []<-chan reply
	for i := range 4 {
		replies = append(replies, l.call(t.Context(), "local/alone", fmt.Sprint(i)))
		if i == 0 {
			<-l.arrived
		} else {
			l.queued(i)
		}
	}
	l.state.enter(func(s *backend.LocalState) {
		loads(s)
		s.Reason, s.Detail = backend.Draining, "is draining: a restart was asked for"
	})
	l.let <- struct{}{}
	if r := <-replies[0]; r.status != 200 {
		t.Errorf("the running call: %+v", r)
	}
	l.state.enter(loads)
	l.queued(3)
	l.state.enter(func(s *backend.LocalState) { takesCalls(s); s.Slots = 1 })
	for i := range 3 {
		if user := <-l.arrived; user != fmt.Sprint(i+1) {
			t.Errorf("call %d is the %s", i+1, user)
		}
		l.let <- struct{}{}
	}
	for _, done := range replies[1:] {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestExplainedWait: llmsup route says that a call would wait.
func TestExplainedWait(t *testing.T) {
	l := newWaitingLocal(t)
	e := l.router.Explain("local/alone")
	if e.Backend != "qwen" || e.WaitFor != "qwen is loading" || e.Reason != "" || e.Refused != "" {
		t.Errorf("%+v", e)
	}
	if e := l.router.Explain("local/qwen"); e.Backend != "openrouter" || e.WaitFor != "" {
		t.Errorf("%+v", e)
	}
}

// TestLeavingClientDoesNotWait: a client that closes the connection frees its
// position while the server loads.
func TestLeavingClientDoesNotWait(t *testing.T) {
	l := newWaitingLocal(t)
	ctx, leave := context.WithCancel(t.Context())
	done := l.call(ctx, "local/alone", "x")
	l.queued(1)
	leave()
	<-done
	l.queued(0)
	if n := len(l.local.calls()); n != 0 {
		t.Errorf("the server got %d calls", n)
	}
}

// TestWaitingCallMovesLater: a call that waits, since fallback_on leaves out the
// present reason, moves when a reason comes that it has.
func TestWaitingCallMovesLater(t *testing.T) {
	l := newWaitingLocal(t, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/picky"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: models.NewWordList("failed", "draining"), Timeout: time.Minute}
	})
	for _, reason := range []backend.Reason{backend.Failed, backend.Draining} {
		done := l.call(t.Context(), "local/picky", "x")
		l.queued(1)
		l.state.enter(func(s *backend.LocalState) { s.Reason, s.Detail, s.Returning = reason, "is "+string(reason), false })
		if r := <-done; r.backend() != "openrouter" || r.reason() != string(reason) {
			t.Errorf("%s: %+v", reason, r)
		}
		l.state.enter(loads)
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
			l := newWaitingLocal(t)
			l.cloud.mu.Lock()
			l.cloud.behave = tc.cloud
			l.cloud.mu.Unlock()
			done := l.call(t.Context(), "local/qwen", "x")
			if !tc.waits {
				if r := <-done; r.status != 400 || r.backend() != "openrouter" || r.reason() != "loading" {
					t.Errorf("%+v", r)
				}
				return
			}
			l.queued(1)
			l.state.enter(takesCalls)
			if r := <-done; r.status != 200 || r.backend() != "qwen" {
				t.Errorf("%+v", r)
			}
			if n := len(l.cloud.calls()); n != 1 {
				t.Errorf("the cloud got %d calls", n)
			}
		})
	}
}

// withMail adds a second server, mail, which is the fallback of qwen.
func withMail(t *testing.T, edit func(*backend.LocalState)) (*slowLocal, *fakeLocal) {
	t.Helper()
	mail := &fakeLocal{}
	l := newWaitingLocal(t, func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["mail"] = mail
		routes["local/pair"] = models.Route{Primary: "qwen", Fallback: "mail", Timeout: waitMost}
	})
	mail.set(func(s *backend.LocalState) { *s = l.state.State() })
	mail.enter(edit)
	return l, mail
}

// TestFallbackIsUsedWhileLoading: the server that loads is no alternative to its
// fallback: that is used although it is degraded, and is asked again when it was
// busy.
func TestFallbackIsUsedWhileLoading(t *testing.T) {
	l, _ := withMail(t, func(s *backend.LocalState) { takesCalls(s); s.Reason, s.Detail = backend.Degraded, "is degraded: hot" })
	if r := l.chat("local/pair", false); r.status != 200 || r.backend() != "mail" || r.reason() != "loading" {
		t.Errorf("a degraded fallback: %+v", r)
	}
	var asked atomic.Int64
	l.cloud.mu.Lock()
	l.cloud.behave = func(w http.ResponseWriter, r *http.Request) {
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

// TestCallsWaitForTheFallback: where the primary takes no calls, or fails, a fallback
// that is a server and restarts is waited for.
func TestCallsWaitForTheFallback(t *testing.T) {
	for name, tc := range map[string]struct {
		primary func(*backend.LocalState)
		reason  string
	}{
		"drained": {func(s *backend.LocalState) {
			loads(s)
			s.Reason, s.Detail, s.Returning = backend.Drained, "is drained", false
		}, "drained"},
		"fails": {takesCalls, "status"},
	} {
		t.Run(name, func(t *testing.T) {
			l, mail := withMail(t, func(s *backend.LocalState) { loads(s); s.Reason, s.Detail = backend.Restarting, "is restarting" })
			l.local.mu.Lock()
			working := l.local.behave
			l.local.behave = status(500, `{"error":{"message":"no"}}`)
			l.local.mu.Unlock()
			l.state.enter(tc.primary)
			done := l.call(t.Context(), "local/pair", "x")
			for deadline := time.Now().Add(waitMost); l.router.Load("mail").Queued != 1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the call does not wait")
				}
			}
			l.local.mu.Lock()
			l.local.behave = working
			l.local.mu.Unlock()
			mail.enter(takesCalls)
			if r := <-done; r.status != 200 || r.backend() != "mail" || r.reason() != tc.reason {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRestartAfterThePlan: a call that was planned while the server took calls, and
// whose fallback then fails, waits for the server as well.
func TestRestartAfterThePlan(t *testing.T) {
	l := newSlowLocal(t, 1)
	l.state.enter(func(s *backend.LocalState) { takesCalls(s); s.Slots = 1 })
	first := l.call(t.Context(), "local/alone", "first")
	<-l.arrived
	l.cloud.mu.Lock()
	l.cloud.behave = breaks
	l.cloud.mu.Unlock()
	second := l.call(t.Context(), "local/qwen", "second")
	l.queued(1)
	l.state.enter(func(s *backend.LocalState) { loads(s); s.Reason, s.Detail = backend.Draining, "is draining" })
	l.let <- struct{}{}
	<-first
	l.queued(1)
	l.state.enter(func(s *backend.LocalState) { takesCalls(s); s.Slots = 1 })
	<-l.arrived
	l.let <- struct{}{}
	if r := <-second; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("%+v", r)
	}
}

// TestOverBudgetWhileLoading: a call that only the server may answer, and that waited
// in vain, is told of the server first: when it is back, the call costs nothing.
func TestOverBudgetWhileLoading(t *testing.T) {
	l := newWaitingLocal(t, func(c *plan.Config, routes map[string]models.Route) {
		c.Accounting.Budget = budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(1))}}, nil)
		routes["local/hasty"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: 100 * time.Millisecond}
	})
	l.state.enter(func(s *backend.LocalState) { loads(s); s.ReadyAt = time.Now().Add(31 * time.Second) })
	wantUnavailable(t, l.chat("local/hasty", false), 503, "loading", "openrouter is not asked", [2]int{30, 31})
}

// TestRejectWaiting: when llmsup stops, calls that still wait get an answer.
func TestRejectWaiting(t *testing.T) {
	l := newSlowLocal(t, 1)
	l.state.enter(func(s *backend.LocalState) { takesCalls(s); s.Slots = 1 })
	running := l.call(t.Context(), "local/alone", "x")
	<-l.arrived
	forSlot := l.call(t.Context(), "local/alone", "x")
	l.queued(1)
	l.router.RejectWaiting()
	l.router.RejectWaiting()
	if r := <-forSlot; r.status != 429 || !strings.Contains(r.body, "llmsup is stopping") {
		t.Errorf("%+v", r)
	}
	l.state.enter(loads)
	wantUnavailable(t, l.chat("local/alone", false), 503, "loading", "qwen is loading, and llmsup is stopping", [2]int{wire.RetrySoon, wire.RetrySoon})
	l.let <- struct{}{}
	if r := <-running; r.status != 200 {
		t.Errorf("the running call: %+v", r)
	}
}
