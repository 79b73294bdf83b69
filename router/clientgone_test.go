package router

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestCancelledCalls: clients close their connections while they wait in the
// queue, during prefill, in the middle of a stream, of a fallback's stream and of a
// continuation. The backend is cancelled, no other backend is asked, and no state is left.
//
// It is four thousand calls, or ten thousand if LLMSUP_TEST_LONG is set.
func TestCancelledCalls(t *testing.T) {
	each := 100 // for each of eight, at each stage
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		each = 250
	}
	for _, stage := range []string{"queue", "prefill", "stream", "fallback", "resume"} {
		t.Run(stage, func(t *testing.T) {
			calls, direct := &durations{}, &durations{}
			var clients sync.WaitGroup
			for range 8 {
				l := newCancellingClient(t, stage)
				clients.Go(func() {
					for i := range each {
						if !l.cancelCall(calls) || i%5 == 0 && !l.cancelDirectCall(direct) {
							return
						}
					}
					l.checkNothingLeft()
				})
			}
			clients.Wait()
			// What the load of the machine adds is not the program's: on a busy one, calls that do
			// not come through it are late, too.
			if !t.Failed() && calls.median() > 100*time.Millisecond+5*direct.median() {
				t.Errorf("half of the calls were cancelled after more than %s, and after %s without llmsup", calls.median(), direct.median())
			}
		})
	}
}

// durations are how long backends went on after their calls were cancelled.
type durations struct {
	mu   sync.Mutex
	list []time.Duration
}

func (d *durations) add(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, took)
}

func (d *durations) median() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.list)
	return d.list[len(d.list)/2]
}

// cancellingClient is a fixture at which a call reaches a stage and stays there.
type cancellingClient struct {
	*fixture
	stage        string
	direct       *fakeBackend  // behaves as a backend does at which a call stays
	reached      chan struct{} // the stage
	handlerEnded chan struct{} // the backend's handler has ended
	releaseSlot  context.CancelFunc
	cloudCalls   int // of the cloud, for each call
}

func newCancellingClient(t *testing.T, stage string) *cancellingClient {
	t.Helper()
	l := &cancellingClient{stage: stage, reached: make(chan struct{}, 4), handlerEnded: make(chan struct{}, 4)}
	stay := func(w http.ResponseWriter, r *http.Request) {
		l.reached <- struct{}{}
		<-r.Context().Done()
		l.handlerEnded <- struct{}{}
	}
	local, cloud := stay, answers
	switch stage {
	case "stream":
		local = sends(stay, firstChunk, textChunk(" 1"))
	case "fallback":
		local, cloud, l.cloudCalls = breaks, sends(stay, ": OPENROUTER PROCESSING\n\n"), 1
	case "resume":
		local, cloud, l.cloudCalls = sends(breaks, firstChunk, textChunk(" 1")), sends(stay, roleEvent), 1
	}
	l.direct = newFakeBackend(t, stay)
	l.fixture = newFixture(t, local, cloud, withResume, func(_ *plan.Config, routes map[string]models.Route) {
		r := routes["local/qwen"]
		r.Timeout = time.Minute
		routes["local/qwen"], routes["local/alone"] = r, models.Route{Primary: "qwen", Timeout: time.Minute}
	})
	if stage == "queue" { // one call has the only slot
		l.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		l.releaseSlot = cancel
		go l.call(ctx, "local/alone")
		if !l.await("the call has the slot", l.reached) {
			t.FailNow()
		}
	}
	return l
}

// await waits for what a handler reports, and says whether it came.
func (l *cancellingClient) await(what string, reported <-chan struct{}) bool {
	select {
	case <-reported:
		return true
	case <-time.After(waitLimit):
		l.t.Errorf("did not happen within %s: %s", waitLimit, what)
		return false
	}
}

func (l *cancellingClient) call(ctx context.Context, model string) { l.callAt(ctx, l.url, model) }

func (l *cancellingClient) callAt(ctx context.Context, url, model string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions",
		strings.NewReader(`{"model":"`+model+`","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		return
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// cancelCall makes a call, cancels it at the stage, and measures how long the backend went on. It
// reports whether the call came there and ended.
func (l *cancellingClient) cancelCall(took *durations) bool {
	if l.stage == "queue" {
		return l.cancelAt(l.url, took, func() bool { return l.waitQueued(1) }, func() bool { return l.waitQueued(0) })
	}
	return l.cancelAt(l.url, took, l.hasReached, l.hasEnded)
}

// cancelDirectCall does so for a call that does not go through llmsup: a third of the way that a
// call through llmsup has.
func (l *cancellingClient) cancelDirectCall(took *durations) bool {
	return l.cancelAt(l.direct.URL, took, l.hasReached, l.hasEnded)
}

func (l *cancellingClient) hasReached() bool {
	return l.await("the call has reached "+l.stage, l.reached)
}

func (l *cancellingClient) hasEnded() bool { return l.await("the handler has ended", l.handlerEnded) }

func (l *cancellingClient) cancelAt(url string, took *durations, reached, ended func() bool) bool {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.callAt(ctx, url, "local/qwen") }()
	defer func() { cancel(); <-done }()
	if !reached() {
		return false
	}
	began := time.Now()
	cancel()
	if !ended() {
		return false
	}
	took.add(time.Since(began))
	return true
}

// waitQueued waits until so many calls are in the queue.
func (l *cancellingClient) waitQueued(n int) bool {
	if holdsInTime(func() bool { return l.router.Load("qwen").Queued == n }) {
		return true
	}
	l.t.Errorf("not %d calls in the queue: %+v", n, l.router.Load("qwen"))
	return false
}

func (l *cancellingClient) checkNothingLeft() {
	if l.releaseSlot != nil {
		l.releaseSlot()
		l.hasEnded()
	}
	if !holdsInTime(func() bool {
		now := l.router.Load("qwen")
		return l.router.Inflight() == 0 && now.Calls == 0 && now.Queued == 0 && now.Waiting == 0
	}) {
		l.t.Errorf("at the end %d calls are left: %+v", l.router.Inflight(), l.router.Load("qwen"))
		return
	}
	local := 0 // calls; once a call is aborted, llmsup asks for busy slots, too
	for _, r := range l.local.requests() {
		if r.path != "/slots" {
			local++
		}
	}
	if l.stage == "queue" && local != 1 || l.cloudCalls == 0 && len(l.cloud.requests()) != 0 || l.cloudCalls == 1 && len(l.cloud.requests()) != local {
		l.t.Errorf("local was asked %d times, the cloud %d times", local, len(l.cloud.requests()))
	}
}

// TestHalfClosedClient: net/http takes a client that closes its sending side for one that
// closed the connection, unless the connection hides that, as the daemon's do. The client
// must not read an empty 200.
func TestHalfClosedClient(t *testing.T) {
	b := newFixture(t, hangs, answers, withTimeout(time.Minute))
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"model":"local/qwen"}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	eventually(t, "local has the call", func() bool { return len(b.local.requests()) > 0 })
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("it read %q, %v", got, err)
	}
	if n := len(b.cloud.requests()); n != 0 {
		t.Errorf("the fallback was asked %d times", n)
	}
}
