package threeboxes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// The test program runs three times: as go test starts it, as the first process of the
// sandbox, and with the tests.
const (
	roleVariable = "LLMSUP_TEST_ROLE"
	roleInit     = "init"
	roleTests    = "tests"
)

// enterSandbox runs this program again, in namespaces of its own, and returns its exit code.
// Another user than root gets a user namespace as well.
func enterSandbox(env ...string) (code int, err error) {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+roleInit), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL, // and with the first process of a namespace, all others end
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
	}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return exitCode("run the tests in namespaces of their own", cmd.Run())
}

// exitCode returns the exit code of a process that has ended with err.
func exitCode(what string, err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("%s: %w", what, err)
	}
	return 0, nil
}

// runInit is the first process of the sandbox. It runs the tests, and waits for the processes
// whose parents have ended, as init does: killed llmsups leave some.
func runInit() int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is not the first process of a sandbox")
		return 1
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0}, // ip keeps the names of network namespaces there
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			fmt.Fprintf(os.Stderr, "mount %s: %v\n", m.target, err)
			return 1
		}
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleTests)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	tests := cmd.Process
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait:", err)
			return 1
		case pid == tests.Pid && status.Exited():
			return status.ExitStatus()
		case pid == tests.Pid:
			fmt.Fprintln(os.Stderr, "the tests ended by", status.Signal())
			return 1
		}
	}
}
