package enginetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Container is a program that stands for docker and podman. Its containers are processes
// that no longer belong to it, as those of a real one:
//
//	test-container run --name NAME PROGRAM ARGUMENT...
//	test-container stop NAME
//
// CONTAINERS is the folder with a file for each container, with its pid.
func Container() {
	file := func(name string) string { return filepath.Join(os.Getenv("CONTAINERS"), name) }
	args := os.Args[1:]
	switch {
	case len(args) > 3 && args[0] == "run" && args[1] == "--name":
		os.Exit(runContainer(file(args[2]), args[3:]))
	case len(args) == 2 && args[0] == "stop":
		os.Exit(stopContainer(file(args[1]), args[1]))
	}
	fmt.Fprintln(os.Stderr, "test-container: unknown command", args)
	os.Exit(125)
}

func runContainer(file string, command []string) int {
	if _, err := os.Stat(file); err == nil {
		fmt.Fprintln(os.Stderr, "test-container: the name is already in use")
		return 125
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-container: executable file not found:", command[0])
		return 127
	}
	// The process is not in the group of this one, and has none of its variables.
	p, err := os.StartProcess(path, command, &os.ProcAttr{ //nolint:gosec // the command is what it is for
		Env: []string{"PATH=" + os.Getenv("PATH")}, Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err == nil {
		err = os.WriteFile(file, []byte(strconv.Itoa(p.Pid)), 0o600) //nolint:gosec // the test chooses the folder
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-container:", err)
		return 125
	}
	state, err := p.Wait()
	_ = os.Remove(file)
	if err != nil {
		return 125
	}
	return state.ExitCode()
}

func stopContainer(file, name string) int {
	raw, err := os.ReadFile(file)
	pid, parseErr := strconv.Atoi(string(raw))
	if err != nil || parseErr != nil {
		fmt.Fprintln(os.Stderr, "test-container: no such container:", name)
		return 1
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 100 {
		if !Running(pid) {
			_ = os.Remove(file)
			fmt.Println("test-container: stopped", name)
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = os.Remove(file)
	return 0
}

// Running reports whether a process runs, and is no zombie.
func Running(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(raw), ") ")
	return err == nil && !slices.Contains([]string{"Z", "X"}, after[:min(1, len(after))])
}
