package process

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// OOMWatch reports whether the kernel has recently killed a process because
// memory ran out. The kernel counts for the whole machine, so only a recent kill
// may be attributed to the process that was killed. Killed therefore compares with
// the reading before the last: the last one may have come between the kill and the
// moment at which llmsup notices it, which on a busy machine is seconds later.
type OOMWatch struct {
	beforeLast, last uint64
	at               time.Time // of the last reading
}

// oomReadInterval is the least time between two readings.
const oomReadInterval = 3 * time.Second

// NewOOMWatch takes the first reading.
func NewOOMWatch() OOMWatch { return OOMWatch{oomKills(), oomKills(), time.Now()} }

// Read takes a reading, unless the last one is recent. It is called all the time.
func (o *OOMWatch) Read() {
	if time.Since(o.at) >= oomReadInterval {
		o.beforeLast, o.last, o.at = o.last, oomKills(), time.Now()
	}
}

// Killed reports whether the kernel has killed a process since the reading before
// the last.
func (o OOMWatch) Killed() bool { return oomKills() > o.beforeLast }

// oomKills returns how many processes the kernel has killed because memory ran
// out since the machine was booted. procfs does not read /proc/vmstat.
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
