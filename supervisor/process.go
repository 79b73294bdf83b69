package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is one run of llama-server. dead is closed at the instant of its end;
// over, when its last output has been read as well. exit is set then, and never
// changes.
type process struct {
	pid  int
	dead chan struct{}
	over chan struct{}
	exit Exit

	mu     sync.Mutex
	reaped bool // the pid may belong to somebody else from now on
}

// pipeDelay is how long the output of a process that is gone may be held open
// by something it left behind.
const pipeDelay = time.Second

// launch starts a program in a process group of its own, in such a way that the
// kernel kills it when llmsup goes, however it goes.
//
// Everything it prints is written to output, which must not block for long.
func launch(path string, args, env []string, output io.Writer) (*process, error) {
	p := &process{dead: make(chan struct{}), over: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(path, args, env, output, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run owns the process from its start to its end. It keeps its thread for as
// long: Pdeathsig fires when the *thread* that started the child exits, not
// the process (golang.org/issue/27505).
func (p *process) run(path string, args, env []string, output io.Writer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command(path, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = output, output // the same writer: one pipe, one order
	cmd.WaitDelay = pipeDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		started <- fmt.Errorf("start %s: %w", path, cause(err))
		return
	}
	p.pid = cmd.Process.Pid
	guard := startGuard(p.pid)
	started <- nil

	p.awaitEnd()
	guard.release() // before the pid is free for others
	err := cmd.Wait()
	p.exit = exitOf(cmd, err)
	close(p.over)
}

// awaitEnd returns when the process has ended, and kills what is left of its
// group while the zombie still holds the group's number, so that the signal
// can't reach a stranger.
func (p *process) awaitEnd() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(p.dead)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.pid, unix.SIGKILL) // ESRCH when it left nothing behind
	p.reaped = true
}

func (p *process) id() int               { return p.pid }
func (p *process) done() <-chan struct{} { return p.dead }

func (p *process) end() Exit {
	<-p.over
	return p.exit
}

// signal sends sig to the process's whole group, if it has not ended.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, sig) // ESRCH: it is ending by itself
	}
}

// stop ends the process: SIGTERM, and SIGKILL when grace has passed or hurry
// is closed. It returns when the process is gone. llama-server takes a second
// SIGTERM for "at once", so exactly one is sent.
func (p *process) stop(grace time.Duration, hurry <-chan struct{}) {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.over:
		return
	case <-timer.C:
	case <-hurry:
	}
	p.signal(syscall.SIGKILL)
	<-p.over
}

func exitOf(cmd *exec.Cmd, err error) Exit {
	e := Exit{At: time.Now(), Code: -1}
	state := cmd.ProcessState
	if state == nil {
		e.Cause = fmt.Sprintf("its end could not be read: %v", err)
		return e
	}
	e.Code, e.Signal = state.ExitCode(), signalOf(state)
	return e
}

// signalOf names the signal that ended a process; "" when it exited by itself.
func signalOf(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return ""
}
