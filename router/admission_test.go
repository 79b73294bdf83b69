package router

import (
	"context"
	"fmt"
	"io"
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

// slowLocal is a bench whose local server has some slots, and answers a call
// when it is let to.
type slowLocal struct {
	*bench
	let     chan struct{} // each receive answers one call
	arrived chan string   // the calls as they come, by their "user"
	mu      sync.Mutex
	working int // slots that the server says are at work; -1 = as many as calls
	dips    int // how often it says that none are
	changed chan struct{}
}

func newSlowLocal(t *testing.T, slots int, edits ...func(*plan.Config, map[string]models.Route)) *slowLocal {
	t.Helper()
	l := &slowLocal{let: make(chan struct{}), arrived: make(chan string, 1000), changed: make(chan struct{})}
	l.bench = newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slots" {
			l.mu.Lock()
			defer l.mu.Unlock()
			var list []string
			for i := range slots {
				list = append(list, fmt.Sprintf(`{"is_processing":%t}`, i < l.working && l.dips == 0))
			}
			l.dips = max(l.dips-1, 0)
			_, _ = io.WriteString(w, "["+strings.Join(list, ",")+"]")
			return
		}
		if r.URL.Path == "/tokenize" {
			_, _ = io.WriteString(w, `{"tokens":[1]}`)
			return
		}
		l.arrived <- gjson.GetBytes(l.local.lastBody(), "user").Str
		select {
		case <-l.let:
			answers(w, r)
		case <-r.Context().Done():
		}
	}, answers, edits...)
	l.state.set(func(s *backend.LocalState) { s.Slots, s.Changed = slots, l.changed })
	return l
}

// call makes a call in the background.
func (l *slowLocal) call(ctx context.Context, model, user string) <-chan reply {
	return l.send(ctx, fmt.Sprintf(`{"model":%q,"user":%q,"messages":[]}`, model, user))
}

func (l *slowLocal) send(ctx context.Context, body string) <-chan reply {
	return l.sendTo(ctx, "/v1/chat/completions", body)
}

func (l *slowLocal) sendTo(ctx context.Context, path, body string) <-chan reply {
	done := make(chan reply, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- reply{readErr: err}
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		done <- reply{resp.StatusCode, resp.Header, string(got), err}
	}()
	return done
}

// queued waits until so many calls are in the queue.
func (l *slowLocal) queued(n int) {
	l.t.Helper()
	l.until(fmt.Sprintf("%d queued", n), func(now Load) bool { return now.Queued == n })
}

func (l *slowLocal) until(what string, ok func(Load) bool) {
	l.t.Helper()
	for deadline := time.Now().Add(waitMost); !ok(l.router.Load("qwen")); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("not %s: %+v", what, l.router.Load("qwen"))
		}
	}
}

// TestQueueIsFair: as many calls as there are slots reach the server, the others
// in the order in which they came.
func TestQueueIsFair(t *testing.T) {
	l := newSlowLocal(t, 2)
	var replies []<-chan reply
	for i := range 6 {
		replies = append(replies, l.call(t.Context(), "local/qwen", fmt.Sprint(i)))
		if i < 2 {
			<-l.arrived
		} else {
			l.queued(i - 1)
		}
	}
	var order []string
	for range 4 {
		l.let <- struct{}{}
		order = append(order, <-l.arrived)
	}
	l.let <- struct{}{}
	l.let <- struct{}{}
	for _, done := range replies {
		if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
			t.Errorf("%+v", r)
		}
	}
	if !slices.IsSorted(order) {
		t.Errorf("the order was %q", order)
	}
	if len(l.cloud.calls()) != 0 {
		t.Error("the cloud was asked for what local could do")
	}
}

// TestFullQueue: beyond the bound a call moves at once, or is told when to come
// again.
func TestFullQueue(t *testing.T) {
	l := newSlowLocal(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var replies []<-chan reply
	for i := range 1 + backend.QueuePerSlot {
		replies = append(replies, l.call(ctx, "local/qwen", "x"))
		if i > 0 {
			l.queued(i)
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
		t.Errorf("what takes no slot had to wait: %+v", r)
	}
	stop()
	for _, done := range replies {
		<-done
	}
	l.until("empty", func(now Load) bool { return now == Load{Bytes: now.Bytes} })
}

// TestWaitingIsNotWorthIt: a call that would have to wait for longer than its
// route's timeout does not wait at all, if somebody else can answer it.
func TestWaitingIsNotWorthIt(t *testing.T) {
	l := newSlowLocal(t, 1)
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	b.Served(70 * time.Second) // the route's timeout is a minute
	first := l.call(t.Context(), "local/qwen", "x")
	<-l.arrived
	began := time.Now()
	if r := l.chat("local/qwen", false); r.backend() != "openrouter" || r.reason() != "saturated" || time.Since(began) > waitMost {
		t.Errorf("after %s: %+v", time.Since(began), r)
	}
	patient := l.call(t.Context(), "local/alone", "y")
	l.queued(1)
	l.let <- struct{}{}
	<-l.arrived
	l.let <- struct{}{}
	for _, done := range []<-chan reply{first, patient} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestWaitingIsBetterThanNobody: a call that did not wait, since somebody else could be
// asked, does when that one has failed.
func TestWaitingIsBetterThanNobody(t *testing.T) {
	l := newSlowLocal(t, 1)
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	b.Served(70 * time.Second) // the route's timeout is a minute
	l.cloud.mu.Lock()
	l.cloud.behave = status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	l.cloud.mu.Unlock()
	first := l.call(t.Context(), "local/qwen", "x")
	<-l.arrived
	second := l.call(t.Context(), "local/qwen", "y")
	l.queued(1)
	l.let <- struct{}{}
	<-l.arrived
	l.let <- struct{}{}
	for _, done := range []<-chan reply{first, second} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
			t.Errorf("%+v", r)
		}
	}
	if n := len(l.cloud.calls()); n != 1 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// TestWaitedIsNotPaidTwice: a stream for which the GPU was waited after all, since the
// fallback broke, is not gone on with there when it breaks too: that would be paid twice.
func TestWaitedIsNotPaidTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		cloud http.HandlerFunc
		asked int
	}{
		"it may have been paid": {breaks, 1},
		"it was not":            {status(http.StatusPaymentRequired, `{"error":{"message":"no credit"}}`), 2},
	} {
		let, arrived := make(chan struct{}), make(chan struct{}, 2)
		b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slots" {
				status(http.StatusNotFound, "")(w, r)
				return
			}
			arrived <- struct{}{}
			<-let
			sends(breaks, opening, said(" 1"))(w, r)
		}, tc.cloud, resuming)
		b.state.set(func(s *backend.LocalState) { s.Slots, s.Changed = 1, make(chan struct{}) })
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
		for b.router.Load("qwen").Queued == 0 {
			time.Sleep(time.Millisecond)
		}
		close(let)
		both.Wait()
		if n := len(b.cloud.calls()); n != tc.asked {
			t.Errorf("%s: the cloud was asked %d times", name, n)
		}
	}
}

// TestWaitingCounts: the timeout runs while a call waits for a slot.
func TestWaitingCounts(t *testing.T) {
	l := newSlowLocal(t, 1, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/hasty"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: 200 * time.Millisecond}
	})
	first := l.call(t.Context(), "local/alone", "x")
	<-l.arrived
	if r := l.chat("local/hasty", false); r.status != 200 || r.backend() != "openrouter" || r.reason() != "saturated" {
		t.Errorf("%+v", r)
	}
	if got := len(l.local.calls()); got != 1 {
		t.Errorf("local was given %d calls", got)
	}
	l.let <- struct{}{}
	<-first
}

// TestLeavingTheQueue: a client that goes away frees its place, and nobody is
// asked in its stead.
func TestLeavingTheQueue(t *testing.T) {
	l := newSlowLocal(t, 1)
	first := l.call(t.Context(), "local/qwen", "first")
	<-l.arrived
	ctx, leave := context.WithCancel(t.Context())
	gone := l.call(ctx, "local/qwen", "gone")
	l.queued(1)
	last := l.call(t.Context(), "local/qwen", "last")
	l.queued(2)
	leave()
	<-gone
	l.queued(1)
	l.let <- struct{}{}
	if user := <-l.arrived; user != "last" {
		t.Errorf("then came %q", user)
	}
	l.let <- struct{}{}
	for _, done := range []<-chan reply{first, last} {
		if r := <-done; r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
	if len(l.cloud.calls()) != 0 {
		t.Error("a call of nobody was answered by the cloud")
	}
}

// TestQueueMovesAtOnce: when the server takes no calls any more, those that wait
// for a slot do not wait for those that have one.
func TestQueueMovesAtOnce(t *testing.T) {
	l := newSlowLocal(t, 1)
	first := l.call(t.Context(), "local/qwen", "first")
	<-l.arrived
	waits, alone := l.call(t.Context(), "local/qwen", "waits"), l.call(t.Context(), "local/alone", "alone")
	l.queued(2)
	l.state.set(func(s *backend.LocalState) {
		s.Alive, s.Reason, s.Detail, s.Changed = false, backend.Draining, "is draining", make(chan struct{})
	})
	close(l.changed)
	if r := <-waits; r.status != 200 || r.backend() != "openrouter" || r.reason() != "draining" {
		t.Errorf("with a fallback: %+v", r)
	}
	if r := <-alone; r.status != 503 || r.header.Get("Retry-After") == "" || gjson.Get(r.body, "error.code").Str != "draining" {
		t.Errorf("without one: %+v", r)
	}
	l.let <- struct{}{}
	if r := <-first; r.status != 200 || r.backend() != "qwen" {
		t.Errorf("the one that had a slot: %+v", r)
	}
}

// TestSlotThatGoesOn: a call that was broken off may hold its slot for a while.
// Until the server says that it is free, nobody is let in for it.
func TestSlotThatGoesOn(t *testing.T) {
	l := newSlowLocal(t, 1)
	ctx, leave := context.WithCancel(t.Context())
	gone := l.call(ctx, "local/alone", "gone")
	<-l.arrived
	l.mu.Lock()
	l.working, l.dips = 1, 1 // at one moment a call that was let in may not have its slot yet
	l.mu.Unlock()
	leave()
	<-gone
	next := l.call(t.Context(), "local/alone", "next")
	l.queued(1)
	select {
	case <-l.arrived:
		t.Error("a call was given to a server without a free slot")
	case <-time.After(300 * time.Millisecond):
	}
	l.mu.Lock()
	l.working = 0
	l.mu.Unlock()
	<-l.arrived
	l.let <- struct{}{}
	if r := <-next; r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// TestSlotOfTheDead: a process that has ended holds no slot.
func TestSlotOfTheDead(t *testing.T) {
	l := newSlowLocal(t, 1)
	l.mu.Lock()
	l.working = 1
	l.mu.Unlock()
	first := l.call(t.Context(), "local/qwen", "x")
	<-l.arrived
	close(l.gone)
	if r := <-first; r.backend() != "openrouter" || r.reason() != "lost" {
		t.Errorf("%+v", r)
	}
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	for deadline := time.Now().Add(waitMost); ; time.Sleep(time.Millisecond) {
		if running, _, _ := b.Queue(); running == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its slot is still counted")
		}
	}
}

// TestChoicesTakeSlots: a call for several choices is given to the server when it
// has a slot for each, and those behind it wait for it.
func TestChoicesTakeSlots(t *testing.T) {
	l := newSlowLocal(t, 3)
	one := l.call(t.Context(), "local/qwen", "one")
	<-l.arrived
	two := l.send(t.Context(), `{"model":"local/qwen","user":"two","n":3,"messages":[]}`)
	l.queued(1)
	three := l.call(t.Context(), "local/qwen", "three")
	l.queued(2)
	l.let <- struct{}{}
	if user := <-l.arrived; user != "two" {
		t.Errorf("then came %q", user)
	}
	l.until("the last one waits", func(now Load) bool { return now.Queued == 1 })
	l.let <- struct{}{}
	<-l.arrived
	l.let <- struct{}{}
	for _, done := range []<-chan reply{one, two, three} {
		if r := <-done; r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestOneSlotLetsOneIn: of several calls that were broken off, as many are let go
// as there are slots free.
func TestOneSlotLetsOneIn(t *testing.T) {
	l := newSlowLocal(t, 3)
	ctx, leave := context.WithCancel(t.Context())
	var gone []<-chan reply
	for range 3 {
		gone = append(gone, l.call(ctx, "local/alone", "gone"))
		<-l.arrived
	}
	l.work(2) // they hold all but one of the slots, for a long prompt
	leave()
	for _, done := range gone {
		<-done
	}
	var next []<-chan reply
	for i := range 3 {
		next = append(next, l.call(t.Context(), "local/alone", "next"))
		l.until("waiting", func(now Load) bool { return now.Calls+now.Queued == i+1 })
	}
	<-l.arrived
	l.work(3) // the one that came has the third
	select {
	case <-l.arrived:
		t.Error("one free slot let two calls in")
	case <-time.After(500 * time.Millisecond):
	}
	l.work(1)
	<-l.arrived
	<-l.arrived
	for range next {
		l.let <- struct{}{}
	}
	for _, done := range next {
		if r := <-done; r.status != 200 {
			t.Errorf("%+v", r)
		}
	}
}

// work sets how many of its slots the server says are at work.
func (l *slowLocal) work(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.working = n
}

// TestErrorsAreNoService: how soon a server refuses says nothing of how long it
// takes to answer.
func TestErrorsAreNoService(t *testing.T) {
	refuse := true
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			status(400, `{"error":{"message":"bad"}}`)(w, r)
			return
		}
		answers(w, r)
	}, answers)
	b.state.set(func(s *backend.LocalState) { s.Slots = 1 })
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
