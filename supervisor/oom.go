package supervisor

import (
	"os"
	"strconv"
	"strings"
)

// oomWatch tells whether the kernel has killed somebody for memory a moment
// ago. Its count is the machine's, so only what is recent may be put down to the
// process that was killed; that takes the last look but one, since the last may
// have come between the kill and the end.
type oomWatch struct{ beforeLast, last uint64 }

func (o *oomWatch) look()     { o.beforeLast, o.last = o.last, oomKills() }
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
