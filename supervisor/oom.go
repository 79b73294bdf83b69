package supervisor

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// oomWatch tells whether the kernel has killed somebody for memory a moment
// ago. Its count is the machine's, so only what is recent may be put down to the
// process that was killed; that takes the last look but one, since the last may
// have come between the kill and the end, which on a busy machine takes seconds.
type oomWatch struct {
	beforeLast, last uint64
	at               time.Time // of the last look
}

// oomRecent is how far apart looks are at least.
const oomRecent = 3 * time.Second

func newOOMWatch() oomWatch { return oomWatch{oomKills(), oomKills(), time.Now()} }

func (o *oomWatch) look() {
	if time.Since(o.at) >= oomRecent {
		o.beforeLast, o.last, o.at = o.last, oomKills(), time.Now()
	}
}

func (o oomWatch) grew() bool { return oomKills() > o.beforeLast }

// oomKills returns how many processes the kernel has killed for memory since
// the machine was booted.
func oomKills() uint64 {
	raw, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
