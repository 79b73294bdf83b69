package supervisor

import (
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// guard is a process that outlives a killed llmsup just long enough to end a
// child's group with it. The kernel's parent-death signal reaches the child
// alone, and not what a wrapper script started below it.
//
// It is a shell that waits on a pipe of which llmsup alone has the other end:
// a line through it means that the group is gone, its end that llmsup is.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startGuard guards a process group. Without a shell on the machine there is no
// guard (nil), and the parent-death signal has to do.
func startGuard(group int) *guard {
	cmd := exec.Command("/bin/sh", "-c", `read -r line || kill -s KILL -- "-$1"`, "llmsup-guard", strconv.Itoa(group))
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil
	}
	if err := cmd.Start(); err != nil {
		return nil
	}
	return &guard{cmd, pipe}
}

// release sends the guard away. It has to come while the group's number can't
// belong to anybody else.
func (g *guard) release() {
	if g == nil {
		return
	}
	_, _ = io.WriteString(g.pipe, "gone\n") // if somebody killed the guard, nobody reads it
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
