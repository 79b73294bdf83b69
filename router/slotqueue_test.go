package router

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestQueueOrder: as many calls as there are slots reach the server, the others follow in
// the order in which they came.
func TestQueueOrder(t *testing.T) {
	l := newGatedServer(t, 2)
	var replies []<-chan reply
	for i := range 6 {
		replies = append(replies, l.startChat(t.Context(), "local/qwen", fmt.Sprint(i)))
		if i < 2 {
			<-l.arrived
		} else {
			l.waitQueued(i - 1)
		}
	}
	var order []string
	for range 4 {
		l.proceed <- struct{}{}
		order = append(order, <-l.arrived)
	}
	l.proceed <- struct{}{}
	l.proceed <- struct{}{}
	for _, done := range replies {
		if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
			t.Errorf("%+v", r)
		}
	}
	if !slices.IsSorted(order) {
		t.Errorf("the order was %q", order)
	}
	if len(l.cloud.requests()) != 0 {
		t.Error("the cloud was asked although local could answer")
	}
}

// TestFullQueue: a call beyond the queue's limit moves at once, or receives 429 with
// Retry-After.
func TestFullQueue(t *testing.T) {
	l := newGatedServer(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var replies []<-chan reply
	for i := range 1 + backend.QueuePerSlot {
		replies = append(replies, l.startChat(ctx, "local/qwen", "x"))
		if i > 0 {
			l.waitQueued(i)
		} else {
			<-l.arrived
		}
	}
	if r := l.chat("local/qwen", false); r.status != 200 || r.backend() != "openrouter" || r.reason() != "saturated" {
		t.Errorf("with a fallback: %+v", r)
	}
	r := l.chat("local/alone", false)
	if r.status != 429 || r.header.Get("Retry-After") != "1" || gjson.Get(r.body, "error.code").Str != "saturated" || gjson.Get(r.body, "error.type").Str != "rate_limit_error" {
		t.Errorf("without one: %+v", r)
	}
	if r := l.post("/tokenize", `{"content":"x"}`); r.status != 200 {
		t.Errorf("a call that takes no slot had to wait: %+v", r)
	}
	stop()
	for _, done := range replies {
		<-done
	}
	l.waitLoad("empty", func(now Load) bool { return now == Load{Bytes: now.Bytes, Total: now.Total} })
}

// TestFallbackWhenWaitExceedsTimeout: a call that would wait longer than its route's
// timeout moves at once if the route has a fallback.
func TestFallbackWhenWaitExceedsTimeout(t *testing.T) {
	l := newGatedServer(t, 1)
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	b.Served(70 * time.Second) // the route's timeout is a minute
	first := l.startChat(t.Context(), "local/qwen", "x")
	<-l.arrived
	began := time.Now()
	if r := l.chat("local/qwen", false); r.backend() != "openrouter" || r.reason() != "saturated" || time.Since(began) > waitLimit {
		t.Errorf("after %s: %+v", time.Since(began), r)
	}
	second := l.startChat(t.Context(), "local/alone", "y")
	l.waitQueued(1)
	l.proceed <- struct{}{}
	<-l.arrived
	l.proceed <- struct{}{}
	for _, done := range []<-chan reply{first, second} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestQueueAfterFallbackFailed: a call that moved instead of waiting enters the queue when
// its fallback has failed.
func TestQueueAfterFallbackFailed(t *testing.T) {
	l := newGatedServer(t, 1)
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	b.Served(70 * time.Second) // the route's timeout is a minute
	l.cloud.mu.Lock()
	l.cloud.handler = status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	l.cloud.mu.Unlock()
	first := l.startChat(t.Context(), "local/qwen", "x")
	<-l.arrived
	second := l.startChat(t.Context(), "local/qwen", "y")
	l.waitQueued(1)
	l.proceed <- struct{}{}
	<-l.arrived
	l.proceed <- struct{}{}
	for _, done := range []<-chan reply{first, second} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
			t.Errorf("%+v", r)
		}
	}
	if n := len(l.cloud.requests()); n != 1 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// TestNoResumeAfterPaidFallback: a stream that waited for the GPU after its fallback broke
// is not continued by that fallback: it would be paid twice.
func TestNoResumeAfterPaidFallback(t *testing.T) {
	for name, tc := range map[string]struct {
		cloud http.HandlerFunc
		asked int
	}{
		"it may have been paid": {breaks, 1},
		"it was not":            {status(http.StatusPaymentRequired, `{"error":{"message":"no credit"}}`), 2},
	} {
		proceed, arrived := make(chan struct{}), make(chan struct{}, 2)
		b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slots" {
				status(http.StatusNotFound, "")(w, r)
				return
			}
			arrived <- struct{}{}
			<-proceed
			sends(breaks, firstChunk, textChunk(" 1"))(w, r)
		}, tc.cloud, withResume)
		b.state.edit(func(s *backend.LocalState) { s.Slots, s.Changed = 1, make(chan struct{}) })
		local, ok := b.router.routing.Load().Backends["qwen"].(*backend.Server)
		if !ok {
			t.Fatal("no local backend")
		}
		local.Served(70 * time.Second) // the route's timeout is a minute
		var both sync.WaitGroup
		both.Go(func() { b.chat("local/alone", true) })
		<-arrived
		both.Go(func() {
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
			if r.backend() != "qwen" || !strings.Contains(r.body, " 1") || !strings.Contains(r.body, `"error"`) {
				t.Errorf("%s: %+v", name, r)
			}
		})
		eventually(t, "the second call waits", func() bool { return b.router.Load("qwen").Queued > 0 })
		close(proceed)
		both.Wait()
		if n := len(b.cloud.requests()); n != tc.asked {
			t.Errorf("%s: the cloud was asked %d times", name, n)
		}
	}
}

// TestTimeoutIncludesQueue: the timeout runs while a call waits for a slot.
func TestTimeoutIncludesQueue(t *testing.T) {
	l := newGatedServer(t, 1, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/short"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: 200 * time.Millisecond}
	})
	first := l.startChat(t.Context(), "local/alone", "x")
	<-l.arrived
	if r := l.chat("local/short", false); r.status != 200 || r.backend() != "openrouter" || r.reason() != "saturated" {
		t.Errorf("%+v", r)
	}
	if got := len(l.local.requests()); got != 1 {
		t.Errorf("local was given %d calls", got)
	}
	l.proceed <- struct{}{}
	<-first
}

// TestQueuedClientGone: a client that closes its connection leaves the queue, and no other
// backend is asked.
func TestQueuedClientGone(t *testing.T) {
	l := newGatedServer(t, 1)
	first := l.startChat(t.Context(), "local/qwen", "first")
	<-l.arrived
	ctx, cancel := context.WithCancel(t.Context())
	gone := l.startChat(ctx, "local/qwen", "gone")
	l.waitQueued(1)
	last := l.startChat(t.Context(), "local/qwen", "last")
	l.waitQueued(2)
	cancel()
	<-gone
	l.waitQueued(1)
	l.proceed <- struct{}{}
	if user := <-l.arrived; user != "last" {
		t.Errorf("the next call is %q, which is wrong", user)
	}
	l.proceed <- struct{}{}
	for _, done := range []<-chan reply{first, last} {
		if r := <-done; r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
	if len(l.cloud.requests()) != 0 {
		t.Error("the cloud answered the call of a client that closed its connection")
	}
}

// TestQueueMovesWhenDraining: when the server stops taking calls, the queued ones move at
// once; those that have a slot are answered.
func TestQueueMovesWhenDraining(t *testing.T) {
	l := newGatedServer(t, 1)
	first := l.startChat(t.Context(), "local/qwen", "first")
	<-l.arrived
	waits, alone := l.startChat(t.Context(), "local/qwen", "waits"), l.startChat(t.Context(), "local/alone", "alone")
	l.waitQueued(2)
	l.state.edit(func(s *backend.LocalState) {
		s.Alive, s.Reason, s.Detail, s.Changed = false, backend.Draining, "is draining", make(chan struct{})
	})
	close(l.changed)
	if r := <-waits; r.status != 200 || r.backend() != "openrouter" || r.reason() != "draining" {
		t.Errorf("with a fallback: %+v", r)
	}
	if r := <-alone; r.status != 503 || r.header.Get("Retry-After") == "" || gjson.Get(r.body, "error.code").Str != "draining" {
		t.Errorf("without one: %+v", r)
	}
	l.proceed <- struct{}{}
	if r := <-first; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("the call that had a slot: %+v", r)
	}
}

// TestSlotPerChoice: a call for several choices is admitted when there is a slot for each,
// and those behind it wait for it.
func TestSlotPerChoice(t *testing.T) {
	l := newGatedServer(t, 3)
	one := l.startChat(t.Context(), "local/qwen", "one")
	<-l.arrived
	two := l.startBody(t.Context(), `{"model":"local/qwen","user":"two","n":3,"messages":[]}`)
	l.waitQueued(1)
	three := l.startChat(t.Context(), "local/qwen", "three")
	l.waitQueued(2)
	l.proceed <- struct{}{}
	if user := <-l.arrived; user != "two" {
		t.Errorf("the next call is %q, which is wrong", user)
	}
	l.waitLoad("the last one waits", func(now Load) bool { return now.Queued == 1 })
	l.proceed <- struct{}{}
	<-l.arrived
	l.proceed <- struct{}{}
	for _, done := range []<-chan reply{one, two, three} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestErrorsDoNotCountAsServiceTime: the time to an error does not change the measured
// service time.
func TestErrorsDoNotCountAsServiceTime(t *testing.T) {
	refuse := true
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			status(400, `{"error":{"message":"bad"}}`)(w, r)
			return
		}
		answers(w, r)
	}, answers)
	b.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
	local, ok := b.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	local.Served(time.Hour)
	if r := b.chat("local/alone", false); r.status != 400 || serviceTime(local) != time.Hour {
		t.Errorf("%d, and a call takes %s", r.status, serviceTime(local))
	}
	refuse = false
	if r := b.chat("local/alone", false); r.status != 200 || serviceTime(local) == time.Hour {
		t.Errorf("%d, and a call takes %s", r.status, serviceTime(local))
	}
}

// serviceTime is how long a call of a server holds its slots on average.
func serviceTime(b *backend.Server) time.Duration {
	_, _, service := b.Queue()
	return service
}
