package process

import (
	"slices"
	"strconv"
	"syscall"
	"testing"
)

// TestMarked: a process that has left the group of its program is found by the token, and
// ends with it. One with a longer token is another program's.
func TestMarked(t *testing.T) {
	p, line := startScript(t, "setsid sleep 300 & echo $!; LLMSUP_CHILD=${LLMSUP_CHILD}X setsid sleep 300 & wait")
	child, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	token := p.token
	waitFor(t, "a session of its own", func() bool { // and its own program: exec empties the environment for a moment
		return groupOf(child) == child && slices.Contains(marked(token), child) && stat(child).Comm == "sleep"
	})
	if pids := new(Members).Of(p.PID(), token); !slices.Contains(pids, child) || !slices.Contains(pids, p.PID()) {
		t.Errorf("the members are %v, want %d and %d among them", pids, p.PID(), child)
	}
	if pids := new(Members).Of(p.PID(), ""); slices.Contains(pids, child) {
		t.Errorf("without a token, the members are %v", pids)
	}
	var other int
	waitFor(t, "the other one in a session of its own", func() bool {
		if pids := marked(token + "X"); len(pids) == 1 {
			other = pids[0]
		}
		return other != 0 && groupOf(other) == other
	})
	p.Stop(0, nil)
	if !runs(child) {
		t.Fatal("the process has ended with the group: this test shows nothing")
	}
	if killed := KillMarked(token); killed != 1 || runs(child) || !runs(other) {
		t.Errorf("killed %d", killed)
	}
	_ = syscall.Kill(other, syscall.SIGKILL)
}
