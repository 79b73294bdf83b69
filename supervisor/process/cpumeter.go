package process

import (
	"time"

	"github.com/prometheus/procfs"
)

// CPUMeter adds up the CPU time that processes use, and that they would use if a
// busy machine let them: on a machine with ten runnable threads per core, a
// program that computes all the time gets a tenth of the time.
//
// The sum covers all processes that were ever read, so that the end of one does
// not hide the work of the others. The zero value is ready to use.
type CPUMeter struct {
	sum     time.Duration
	at      time.Time // of the last reading
	usage   map[int]Usage
	threads map[thread]runTime
}

type thread struct{ pid, tid int }

// runTime is the time that a thread has run on a CPU, and has waited for one while
// it could run.
type runTime struct{ ran, waited time.Duration }

// Read adds what some processes have used since the last reading, and returns the
// sum.
func (m *CPUMeter) Read(pids []int) time.Duration {
	at, usage, threads := time.Now(), UsageOf(pids), runTimes(pids)
	for pid, u := range usage {
		m.sum += max(u.CPU-m.usage[pid].CPU, 0)
	}
	for id, t := range threads {
		if before, known := m.threads[id]; known {
			m.sum += t.missed(before, at.Sub(m.at))
		}
	}
	m.at, m.usage, m.threads = at, usage, threads
	return m.sum
}

// missed is the CPU time that a thread had to do without since the reading before.
// It is 0 unless the thread could run for at least half of that time: then it
// computes. One that only answers probes waits for a moment each time, which is no
// work of the program's.
func (t runTime) missed(before runTime, elapsed time.Duration) time.Duration {
	ran, waited := t.ran-before.ran, t.waited-before.waited
	if ran+waited < elapsed/2 {
		return 0
	}
	return waited
}

// runTimes reads those of all threads of some processes. A kernel without this
// accounting (CONFIG_SCHED_INFO) has none, or reports zeros.
func runTimes(pids []int) map[thread]runTime {
	times := map[thread]runTime{}
	for _, pid := range pids {
		threads, err := procfs.AllThreads(pid)
		if err != nil {
			continue // it has ended
		}
		for _, t := range threads {
			if s, err := t.Schedstat(); err == nil {
				times[thread{pid, t.PID}] = runTime{time.Duration(s.RunningNanoseconds), time.Duration(s.WaitingNanoseconds)}
			}
		}
	}
	return times
}
