package router

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestTenThousandLeave: clients that go away while they wait in the queue, for
// the prompt, in the middle of a stream, of a fallback's or of a resumed one.
// Whoever works for them is let go, nobody else is asked, and nothing is left.
func TestTenThousandLeave(t *testing.T) {
	const each = 250 // for each of eight, at each stage
	for _, stage := range []string{"queue", "prefill", "stream", "fallback", "resume"} {
		t.Run(stage, func(t *testing.T) {
			var late, lateAnyway atomic.Int64
			var leavers sync.WaitGroup
			for range 8 {
				l := newLeaver(t, stage)
				leavers.Go(func() {
					for i := range each {
						if l.leaves() > 100*time.Millisecond {
							late.Add(1)
						}
						if i%5 == 0 && l.leavesThePeer() > 30*time.Millisecond {
							lateAnyway.Add(5)
						}
					}
					l.nothingIsLeft()
				})
			}
			leavers.Wait()
			// What the load of the machine adds is not the program's: a busy one lets calls go
			// late that do not come through it, too.
			if n, anyway := late.Load(), lateAnyway.Load(); n > 8*each/100+anyway {
				t.Errorf("%d of %d were let go after more than 100 ms, and some %d would have been late without llmsup", n, 8*each, anyway)
			}
		})
	}
}

// leaver is a bench at which a call gets to a stage and stays there.
type leaver struct {
	*bench
	stage   string
	direct  *peer         // behaves as a backend does at which a call stays
	reached chan struct{} // the stage
	let     chan struct{} // the backend's handler has ended
	holder  context.CancelFunc
	asked   int // of the cloud, for each call
}

func newLeaver(t *testing.T, stage string) *leaver {
	t.Helper()
	l := &leaver{stage: stage, reached: make(chan struct{}, 4), let: make(chan struct{}, 4)}
	stay := func(w http.ResponseWriter, r *http.Request) {
		l.reached <- struct{}{}
		<-r.Context().Done()
		l.let <- struct{}{}
	}
	local, cloud := stay, answers
	switch stage {
	case "stream":
		local = sends(stay, opening, said(" 1"))
	case "fallback":
		local, cloud, l.asked = breaks, sends(stay, ": OPENROUTER PROCESSING\n\n"), 1
	case "resume":
		local, cloud, l.asked = sends(breaks, opening, said(" 1")), sends(stay, roleEvent), 1
	}
	l.direct = newPeer(t, stay)
	l.bench = newBench(t, local, cloud, resuming, func(_ *plan.Config, routes map[string]models.Route) {
		r := routes["local/qwen"]
		r.Timeout = time.Minute
		routes["local/qwen"], routes["local/alone"] = r, models.Route{Primary: "qwen", Timeout: time.Minute}
	})
	if stage == "queue" { // one call has the only slot
		l.state.set(func(s *backend.LocalState) { s.Slots = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		l.holder = cancel
		go l.call(ctx, "local/alone")
		<-l.reached
	}
	return l
}

func (l *leaver) call(ctx context.Context, model string) { l.callAt(ctx, l.url, model) }

func (l *leaver) callAt(ctx context.Context, url, model string) {
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

// leaves makes a call, goes away from it at the stage, and returns how long the
// backend went on.
func (l *leaver) leaves() time.Duration {
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.call(ctx, "local/qwen") }()
	if l.stage == "queue" {
		for l.router.Load("qwen").Queued == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	} else {
		<-l.reached
	}
	began := time.Now()
	leave()
	if l.stage == "queue" {
		for l.router.Load("qwen").Queued > 0 {
			time.Sleep(50 * time.Microsecond)
		}
	} else {
		<-l.let
	}
	took := time.Since(began)
	<-done
	return took
}

// leavesThePeer goes away from a backend that it has called itself, and returns how
// long that went on: a third of the way that a call through llmsup has.
func (l *leaver) leavesThePeer() time.Duration {
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.callAt(ctx, l.direct.URL, "") }()
	<-l.reached
	began := time.Now()
	leave()
	<-l.let
	took := time.Since(began)
	<-done
	return took
}

func (l *leaver) nothingIsLeft() {
	if l.holder != nil {
		l.holder()
		<-l.let
	}
	for deadline := time.Now().Add(waitMost); ; time.Sleep(time.Millisecond) {
		now := l.router.Load("qwen")
		if l.router.Inflight() == 0 && now.Calls == 0 && now.Queued == 0 && now.Waiting == 0 {
			break
		}
		if time.Now().After(deadline) {
			l.t.Errorf("at the end %d calls are left: %+v", l.router.Inflight(), now)
			return
		}
	}
	local := len(l.local.calls())
	if l.stage == "queue" && local != 1 || l.asked == 0 && len(l.cloud.calls()) != 0 || l.asked == 1 && len(l.cloud.calls()) != local {
		l.t.Errorf("local was asked %d times, the cloud %d times", local, len(l.cloud.calls()))
	}
}
