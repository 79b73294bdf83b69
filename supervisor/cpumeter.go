package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// cpuMeter sums up the CPU time that processes use, and that they would use if a
// busy machine let them: on one with ten runnable threads per core, an engine in
// the middle of a prompt computes for a tenth of the time.
//
// It adds over the lives of all the processes: when one ends, the others' work
// must not look undone.
type cpuMeter struct {
	sum     time.Duration
	at      time.Time                // of the last reading
	seen    map[int]work             // by process
	threads map[string]threadRunTime // by its folder in /proc
}

// threadRunTime is the time that a thread has run on a CPU, and has waited for one
// while it could run.
type threadRunTime struct{ ran, waited time.Duration }

func (m *cpuMeter) read(pids []int) time.Duration {
	at, now, threads := time.Now(), worksOf(pids), threadRunTimes(pids)
	for pid, w := range now {
		m.sum += max(w.cpu-m.seen[pid].cpu, 0)
	}
	for name, t := range threads {
		if before, known := m.threads[name]; known {
			m.sum += t.missed(before, at.Sub(m.at))
		}
	}
	m.at, m.seen, m.threads = at, now, threads
	return m.sum
}

// missed is the CPU time that a thread went without, since the reading before. It
// is 0 unless the thread could run for at least half of that time: then it
// computes. One that only answers probes waits for a moment each time, and that is
// no work of the engine's.
func (t threadRunTime) missed(before threadRunTime, elapsed time.Duration) time.Duration {
	ran, waited := t.ran-before.ran, t.waited-before.waited
	if ran+waited < elapsed/2 {
		return 0
	}
	return waited
}

// threadRunTimes reads those of all threads of some processes. A kernel without
// this accounting (CONFIG_SCHED_INFO) has none, or gives zeros.
func threadRunTimes(pids []int) map[string]threadRunTime {
	times := map[string]threadRunTime{}
	for _, pid := range pids {
		threads, _ := filepath.Glob(procPath(pid, "task/*")) // its only error is the pattern's
		for _, thread := range threads {
			raw, err := os.ReadFile(filepath.Join(thread, "schedstat"))
			if err != nil {
				continue // it has ended
			}
			var t threadRunTime
			if _, err := fmt.Sscan(string(raw), &t.ran, &t.waited); err == nil { // in nanoseconds
				times[thread] = t
			}
		}
	}
	return times
}
