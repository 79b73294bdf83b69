package process

import (
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// guard is a process that kills a child's group, and the processes that have left it,
// when llmsup ends without having done so. The kernel's parent-death signal kills the child
// alone, and not what a wrapper script started below it. A container is no process of the
// group at all: the command that stops it is run in between.
//
// It is a shell that reads from a pipe whose other end only llmsup has open:
// a line means that the group has ended, end of file that llmsup has.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// guardScript gets the group, the entry with the token, and the command that stops the
// program, if there is one. It looks twice for processes with the token, since one of them
// may start another meanwhile.
const guardScript = `read -r line && exit
kill -s KILL -- "-$1"
entry=$2
shift 2
if [ $# -gt 0 ]; then "$@" </dev/null >/dev/null 2>&1; fi
for round in 1 2; do
	grep -lsF "$entry" /proc/[0-9]*/environ | while read -r file; do
		pid=${file#/proc/}
		kill -s KILL "${pid%/environ}"
	done
done`

// startGuard starts the guard of a process group. It returns nil on a machine
// without a shell, where only the parent-death signal remains.
func startGuard(group int, c Command) *guard {
	args := []string{"-c", guardScript, "llmsup-guard", strconv.Itoa(group), ChildVariable + "=" + c.Token}
	cmd := exec.Command("/bin/sh", append(args, c.Stop...)...)
	if cmd.Env = []string{}; len(c.Stop) > 0 {
		cmd.Env = c.Env
	}
	cmd.Stderr = nil
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
