package process

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
)

// A program may start processes outside of its group: in a session of their own, as
// daemons do. They inherit the token in its environment, unless a program clears it: one
// that changes its title may, as Python's setproctitle does.

// marked returns the processes that have a token in their environment, as far as llmsup
// may read it.
func marked(token string) (pids []int) {
	all, err := procfs.AllProcs()
	if err != nil || token == "" {
		return nil
	}
	for _, p := range all {
		if hasToken(p.PID, token) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// hasToken reports whether a process has a token in its environment.
func hasToken(pid int, token string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	entry := []byte(ChildVariable + "=" + token)
	return slices.ContainsFunc(bytes.Split(raw, []byte{0}), func(other []byte) bool { return bytes.Equal(other, entry) })
}

// KillMarked kills the processes that have a token in their environment, which are those
// that an ended program has left behind, and returns how many there were. It repeats that
// for those that one of them has started meanwhile.
func KillMarked(token string) (killed int) {
	const rounds = 5
	for range rounds {
		pids := marked(token)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			if ended, _ := (pidFile{Token: token}).kill(pid); ended {
				killed++
			}
		}
	}
	return killed
}

// Members finds the processes of a running program: its group, and those that have left it.
// Finding the latter means to read the environment of each process of the machine, and is
// done less often. It may be used from several goroutines.
type Members struct {
	mu    sync.Mutex
	token string
	at    time.Time
	left  []int
}

// strayInterval is the time between two looks at the environments.
const strayInterval = 10 * time.Second

// Of returns the processes of the program with a leader and a token; "" = none has it.
func (m *Members) Of(leader int, token string) []int {
	pids := Group(leader)
	if token == "" {
		return pids
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.token != token || time.Since(m.at) > strayInterval {
		m.left, m.token, m.at = marked(token), token, time.Now()
	}
	for _, pid := range m.left {
		if !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
