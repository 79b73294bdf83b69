package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Exit is how a process ended.
type Exit struct {
	At     time.Time
	Code   int    // exit status; -1 when a signal ended it
	Signal string // "SIGKILL", ...; "" when it exited by itself
}

// Process is one run of a program.
type Process struct {
	pid    int
	token  string
	dead   chan struct{} // closed at the instant of its end
	waited chan struct{} // closed when its last output has been read as well
	exit   Exit          // set before waited is closed, and never changed

	mu     sync.Mutex
	reaped bool // the kernel may give the pid to another process from now on
}

// outputDelay is how long the output of a process that has ended may be held
// open by something that it left behind.
const outputDelay = time.Second

// Command is a program to start.
type Command struct {
	Path  string
	Args  []string
	Env   []string // complete
	Token string   // is added to the environment, and marks the processes below this one
	Stop  []string // a command that ends what the program has started elsewhere; nil = none
	Port  string   // where the program listens, for the environment of Stop; "" = on a socket
}

// Start starts a program in a process group of its own. The kernel kills it when
// llmsup ends, however it ends.
//
// Everything it prints is written to output, which must not block for long.
func Start(command Command, output io.Writer) (*Process, error) {
	p := &Process{dead: make(chan struct{}), waited: make(chan struct{})}
	started := make(chan error, 1)
	if command.Token == "" {
		command.Token = rand.Text()
	}
	p.token = command.Token
	go p.run(command, output, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run follows the process from its start to its end. It keeps its thread for as
// long: Pdeathsig fires when the *thread* that started the child exits, not the
// process (golang.org/issue/27505).
func (p *Process) run(c Command, output io.Writer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = append(slices.Clone(c.Env), ChildVariable+"="+c.Token)
	cmd.Stdout, cmd.Stderr = output, output // the same writer: one pipe, one order
	cmd.WaitDelay = outputDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		started <- fmt.Errorf("start %s: %w", c.Path, RootCause(err))
		return
	}
	p.pid = cmd.Process.Pid
	guard := startGuard(p.pid, c)
	started <- nil

	p.awaitEnd()
	guard.release() // before the kernel may reuse the pid
	_ = cmd.Wait()  // its error is the exit status, or about the output
	p.exit = exitOf(cmd.ProcessState)
	close(p.waited)
}

// awaitEnd returns when the process has ended, and kills what is left of its
// group while the zombie still holds the group's number, so that the signal
// cannot reach another group.
func (p *Process) awaitEnd() {
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

// PID returns the number of the process, and of its group.
func (p *Process) PID() int { return p.pid }

// Done is closed at the instant of the process's end.
func (p *Process) Done() <-chan struct{} { return p.dead }

// Wait returns how the process ended, when its last output has been read.
func (p *Process) Wait() Exit {
	<-p.waited
	return p.exit
}

// signal sends sig to the process's whole group, if it has not ended.
func (p *Process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, sig) // ESRCH: it is ending by itself
	}
}

// Stop ends the process: it sends SIGTERM, and SIGKILL when grace has passed or
// force is closed. It returns when the process has ended. It sends exactly one
// SIGTERM: programs such as llama-server take a second one for "at once".
func (p *Process) Stop(grace time.Duration, force <-chan struct{}) {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.waited:
		return
	case <-timer.C:
	case <-force:
	}
	p.signal(syscall.SIGKILL)
	<-p.waited
}

func exitOf(state *os.ProcessState) Exit {
	e := Exit{At: time.Now(), Code: -1}
	if state == nil { // wait(2) failed
		return e
	}
	e.Code = state.ExitCode()
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = unix.SignalName(status.Signal())
	}
	return e
}

// RootCause removes what os and os/exec put around a system error.
func RootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
