package router

import (
	"context"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/backend"
)

// TestOrphanedSlotIsNotReused: an aborted call may keep its slot for a while. Until the
// server reports the slot as free, it is given to no other call.
func TestOrphanedSlotIsNotReused(t *testing.T) {
	l := newGatedServer(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	gone := l.startChat(ctx, "local/alone", "gone")
	<-l.arrived
	l.mu.Lock()
	l.busySlots, l.idleReports = 1, 1 // at one moment an admitted call may not have its slot yet
	l.mu.Unlock()
	cancel()
	<-gone
	next := l.startChat(t.Context(), "local/alone", "next")
	l.waitQueued(1)
	select {
	case <-l.arrived:
		t.Error("a call was given to a server without a free slot")
	case <-time.After(300 * time.Millisecond):
	}
	l.mu.Lock()
	l.busySlots = 0
	l.mu.Unlock()
	<-l.arrived
	l.proceed <- struct{}{}
	if r := <-next; r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// TestExitedServerHoldsNoSlot: a process that has exited holds no slot.
func TestExitedServerHoldsNoSlot(t *testing.T) {
	l := newGatedServer(t, 1)
	l.mu.Lock()
	l.busySlots = 1
	l.mu.Unlock()
	first := l.startChat(t.Context(), "local/qwen", "x")
	<-l.arrived
	close(l.processExited)
	if r := <-first; r.backend() != "openrouter" || r.reason() != "lost" {
		t.Errorf("%+v", r)
	}
	b, ok := l.router.routing.Load().Backends["qwen"].(*backend.Server)
	if !ok {
		t.Fatal("no local backend")
	}
	eventually(t, "the exited server holds no slot", func() bool { running, _, _ := b.Queue(); return running == 0 })
}

// TestFreedSlotAdmitsOneCall: after several calls were aborted, as many calls are admitted
// as slots become free.
func TestFreedSlotAdmitsOneCall(t *testing.T) {
	l := newGatedServer(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var gone []<-chan reply
	for range 3 {
		gone = append(gone, l.startChat(ctx, "local/alone", "gone"))
		<-l.arrived
	}
	l.mu.Lock()
	l.busySlots, l.takeSlots = 2, true // they keep all slots but one, during a long prefill
	l.mu.Unlock()
	cancel()
	for _, done := range gone {
		<-done
	}
	var next []<-chan reply
	for i := range 3 {
		next = append(next, l.startChat(t.Context(), "local/alone", "next"))
		l.waitLoad("waiting", func(now Load) bool { return now.Calls+now.Queued == i+1 })
	}
	<-l.arrived // the admitted call has the third slot
	select {
	case <-l.arrived:
		t.Error("one free slot admitted two calls")
	case <-time.After(500 * time.Millisecond):
	}
	l.setBusySlots(1)
	<-l.arrived
	<-l.arrived
	for range next {
		l.proceed <- struct{}{}
	}
	for _, done := range next {
		if r := <-done; r.status != 200 {
			t.Errorf("%+v", r)
		}
	}
}
