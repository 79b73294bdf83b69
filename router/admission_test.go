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
)

// slowLocal is a bench whose local server has some slots, and answers a call
// when it is let to.
type slowLocal struct {
	*bench
	let     chan struct{} // each receive answers one call
	arrived chan string   // the calls as they come, by their "user"
	mu      sync.Mutex
	working int // slots that the server says are at work; -1 = as many as calls
	changed chan struct{}
}

func newSlowLocal(t *testing.T, slots int, edits ...func(*Config, map[string]models.Route)) *slowLocal {
	t.Helper()
	l := &slowLocal{let: make(chan struct{}), arrived: make(chan string, 1000), changed: make(chan struct{})}
	l.bench = newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slots" {
			l.mu.Lock()
			defer l.mu.Unlock()
			var list []string
			for i := range slots {
				list = append(list, fmt.Sprintf(`{"is_processing":%t}`, i < l.working))
			}
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
	l.state.set(func(s *LocalState) { s.Slots, s.Changed = slots, l.changed })
	return l
}

// call makes a call in the background.
func (l *slowLocal) call(ctx context.Context, model, user string) <-chan reply {
	done := make(chan reply, 1)
	body := fmt.Sprintf(`{"model":%q,"user":%q,"messages":[]}`, model, user)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+"/v1/chat/completions", strings.NewReader(body))
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
	l.until(fmt.Sprintf("%d queued", n), func(now Traffic) bool { return now.Queued == n })
}

func (l *slowLocal) until(what string, ok func(Traffic) bool) {
	l.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(l.router.Traffic("qwen")); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("not %s: %+v", what, l.router.Traffic("qwen"))
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
	for i := range 1 + queuePerSlot {
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
	l.until("empty", func(now Traffic) bool { return now == Traffic{Bytes: now.Bytes} })
}

// TestWaitingIsNotWorthIt: a call that would have to wait for longer than its
// route's timeout does not wait at all, if somebody else can answer it.
func TestWaitingIsNotWorthIt(t *testing.T) {
	l := newSlowLocal(t, 1)
	b, ok := l.router.routing.Load().backends["qwen"].(*localBackend)
	if !ok {
		t.Fatal("no local backend")
	}
	b.gate.service = 6 * time.Second // the route's timeout is 5 s
	first := l.call(t.Context(), "local/qwen", "x")
	<-l.arrived
	began := time.Now()
	if r := l.chat("local/qwen", false); r.backend() != "openrouter" || r.reason() != "saturated" || time.Since(began) > 3*time.Second {
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

// TestWaitingCounts: the timeout runs while a call waits for a slot.
func TestWaitingCounts(t *testing.T) {
	l := newSlowLocal(t, 1, func(_ *Config, routes map[string]models.Route) {
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
	l.state.set(func(s *LocalState) {
		s.Alive, s.Reason, s.Detail, s.Changed = false, Draining, "is draining", make(chan struct{})
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
	l.working = 1
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
	b, ok := l.router.routing.Load().backends["qwen"].(*localBackend)
	if !ok {
		t.Fatal("no local backend")
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if running, _ := b.gate.load(); running == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its slot is still counted")
		}
	}
}
