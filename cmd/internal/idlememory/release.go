package idlememory

import (
	"context"
	"runtime/debug"
	"time"
)

// idleBeforeRelease is the time without calls after which llmsup releases memory. It is also
// the interval of the check, so it takes up to twice as long.
const idleBeforeRelease = 5 * time.Second

// Release returns memory to the machine after a time without calls, until ctx
// ends. Otherwise the runtime keeps the memory of a burst for minutes, and garbage below
// the threshold of the next collection for ever. A collection takes some milliseconds,
// which delays no call while there is none. calls is the number of calls so far, inflight
// that of running calls.
func Release(ctx context.Context, calls func() int64, inflight func() int, release func()) {
	tick := time.NewTicker(idleBeforeRelease)
	defer tick.Stop()
	seen, released := calls(), calls()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := calls()
		if now == seen && now != released && inflight() == 0 {
			release()
			released = now
		}
		seen = now
	}
}

// Free collects twice, since pools release their content only the second time.
func Free() {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}
