package idlememory

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRelease: once after each busy period, and never during one.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, inflight, given atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go Release(ctx, calls.Load, func() int { return int(inflight.Load()) }, func() { given.Add(1) })
		time.Sleep(time.Millisecond) // so that no step below coincides with a check
		for _, step := range []struct {
			what     string
			calls    int64 // that come
			inflight int64 // afterwards
			takes    time.Duration
			given    int64 // in all
		}{
			{"nothing has been asked", 0, 0, time.Hour, 0},
			{"a call has just ended", 1, 0, idleBeforeRelease / 2, 0},
			{"rest", 0, 0, 2 * idleBeforeRelease, 1},
			{"rest goes on", 0, 0, time.Hour, 1},
			{"a long answer", 1, 1, time.Hour, 1},
			{"its end", 0, 0, idleBeforeRelease, 2},
			{"a call each second", 1, 0, time.Second, 2},
			{"and another", 1, 0, time.Second, 2},
			{"rest after these", 0, 0, 2 * idleBeforeRelease, 3},
		} {
			calls.Add(step.calls)
			inflight.Store(step.inflight)
			time.Sleep(step.takes)
			if n := given.Load(); n != step.given {
				t.Errorf("%s: memory was released %d times; want %d", step.what, n, step.given)
			}
		}
	})
}
