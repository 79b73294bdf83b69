package router

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

func (r reply) queue() string { return r.header.Get(wire.HeaderQueue) }

// TestQueueHeader: an answer has the place that its call had when it began to wait for the
// model or for a slot, and none if it did not wait.
func TestQueueHeader(t *testing.T) {
	l := newLoadingServer(t)
	var waiting []<-chan reply
	for i := range 3 {
		waiting = append(waiting, l.startChat(t.Context(), "local/alone", "x"))
		l.waitQueued(i + 1)
	}
	l.state.transition(ready)
	for i, done := range waiting {
		if r := <-done; r.status != 200 || r.queue() != []string{"1", "2", "3"}[i] {
			t.Errorf("call %d: %+v", i+1, r)
		}
	}
	if r := l.chat("local/alone", false); r.status != 200 || r.header[wire.HeaderQueue] != nil {
		t.Errorf("a call that did not wait: %+v", r)
	}
}

// TestQueueHeaderOfSlots: a call that waits for a slot has its place, too.
func TestQueueHeaderOfSlots(t *testing.T) {
	l := newGatedServer(t, 1)
	first := l.startChat(t.Context(), "local/alone", "x")
	<-l.arrived
	second := l.startChat(t.Context(), "local/alone", "y")
	l.waitQueued(1)
	l.proceed <- struct{}{}
	l.proceed <- struct{}{}
	if r := <-first; r.queue() != "" {
		t.Errorf("%+v", r)
	}
	if r := <-second; r.status != 200 || r.queue() != "1" {
		t.Errorf("%+v", r)
	}
}

// TestQueueHeaderOfErrors: an error after a wait has the call's place, as has the answer of a
// fallback after a wait.
func TestQueueHeaderOfErrors(t *testing.T) {
	const short = time.Second // from the call's beginning: it has to be waiting by then
	l := newWaitingRoute(t, models.WhileLoading(short), time.Minute)
	if r := l.chat("local/qwen", false); r.backend() != "openrouter" || r.queue() != "1" {
		t.Errorf("moved: %+v", r)
	}
	l = newWaitingRoute(t, models.WaitForTimeout, short)
	l.breakCloud()
	if r := l.chat("local/qwen", false); r.status != 503 || r.queue() != "1" {
		t.Errorf("failed: %+v", r)
	}
}

// TestWaitIsRecorded: the log has how long a call waited, and the metrics have how long it
// waited for its model: not for a slot, and not if it did not wait.
func TestWaitIsRecorded(t *testing.T) {
	const short = time.Second
	moves := func(l *gatedServer) { l.chat("local/qwen", false) }
	for name, tc := range map[string]struct {
		loading  bool
		call     func(*gatedServer)
		waits    bool // the log has a wait
		forModel bool
	}{
		"for the model, and moves": {true, moves, true, true},
		"for the model, and is served": {true, func(l *gatedServer) {
			answered := l.startChat(t.Context(), "local/alone", "x")
			l.waitQueued(1)
			outlast(0)
			l.state.transition(ready)
			l.proceed <- struct{}{}
			<-answered
		}, true, true},
		"for the model, and leaves": {true, func(l *gatedServer) {
			ctx, cancel := context.WithCancel(t.Context())
			gone := l.startChat(ctx, "local/alone", "x")
			l.waitQueued(1)
			outlast(0)
			cancel()
			<-gone
		}, true, true},
		"for a slot": {false, func(l *gatedServer) {
			first := l.startChat(t.Context(), "local/alone", "x")
			<-l.arrived
			second := l.startChat(t.Context(), "local/alone", "y")
			l.waitQueued(1)
			outlast(0)
			l.proceed <- struct{}{}
			l.proceed <- struct{}{}
			<-first
			<-second
		}, true, false},
		"for nothing": {false, func(l *gatedServer) {
			answered := l.startChat(t.Context(), "local/alone", "x")
			l.proceed <- struct{}{}
			<-answered
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newGatedServer(t, 1, func(_ *plan.Config, routes map[string]models.Route) {
				routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: time.Minute, WhileLoading: models.WhileLoading(short)}
			})
			if tc.loading {
				l.state.transition(loading)
			}
			tc.call(l)
			l.waitIdle()
			if log := l.log.String(); strings.Contains(log, `"wait_ms":`) != tc.waits {
				t.Errorf("the log is\n%s", log)
			}
			want := "0"
			if tc.forModel {
				want = "1"
			}
			if got := metricLines(l.router.registry, "llmsup_model_wait_seconds_count"); got != `llmsup_model_wait_seconds_count{server="qwen"} `+want+"\n" {
				t.Errorf("the metrics have %q", got)
			}
		})
	}
}
