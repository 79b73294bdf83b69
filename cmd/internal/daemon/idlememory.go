package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// idleBeforeRelease is how long llmsup has to be without calls before it gives memory
// back. It is looked at that often, so it takes up to twice as long.
const idleBeforeRelease = 5 * time.Second

// releaseMemoryWhenIdle gives the memory that calls have left behind to the machine, once
// none has come for a while, until ctx ends. The runtime alone keeps what a burst
// took for minutes, and for ever what is below its next collection. To collect
// costs some milliseconds, which at rest nobody waits for. calls is how many have
// come so far, inflight how many are being worked on.
func releaseMemoryWhenIdle(ctx context.Context, calls func() int64, inflight func() int, giveBack func()) {
	tick := time.NewTicker(idleBeforeRelease)
	defer tick.Stop()
	seen, given := calls(), calls()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := calls()
		if now == seen && now != given && inflight() == 0 {
			giveBack()
			given = now
		}
		seen = now
	}
}

// freeMemory collects twice: pools let go of what is in them only at the second time.
func freeMemory() {
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}
