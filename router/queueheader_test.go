package router

import (
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
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
	const short = 20 * time.Millisecond
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
