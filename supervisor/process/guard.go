package process

import (
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// guard is a process that kills a child's group when llmsup ends without having
// done so. The kernel's parent-death signal kills the child alone, and not what a
// wrapper script started below it.
//
// It is a shell that reads from a pipe whose other end only llmsup has open:
// a line means that the group has ended, end of file that llmsup has.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startGuard starts the guard of a process group. It returns nil on a machine
// without a shell, where only the parent-death signal remains.
func startGuard(group int) *guard {
	cmd := exec.Command("/bin/sh", "-c", `read -r line || kill -s KILL -- "-$1"`, "llmsup-guard", strconv.Itoa(group))
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C must not reach it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil
	}
	if err := cmd.Start(); err != nil {
		return nil
	}
	return &guard{cmd, pipe}
}

// release ends the guard. Its caller calls it before the kernel may give the
// group's number to another group.
func (g *guard) release() {
	if g == nil {
		return
	}
	_, _ = io.WriteString(g.pipe, "gone\n") // fails if the guard was killed
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
