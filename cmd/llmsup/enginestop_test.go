package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// loggedWorker finds the pid that an engine has printed of its worker.
var loggedWorker = regexp.MustCompile(`engine: worker (\d+)`)

// engineMachine is a server of llmsup's, and the process that is to end with it.
type engineMachine struct {
	in         *instance
	config     string
	containers string // the folder with the containers
}

// newEngineMachine starts llmsup with an engine: with flags, or in a container.
func newEngineMachine(t *testing.T, flags string, container bool) (m engineMachine, pids []int) {
	t.Helper()
	m.containers = t.TempDir()
	text := "servers:\n" + engineServer("e", flags)
	if container {
		text = "servers:\n  e:\n    command: [test-container, run, --name, box, test-engine, --port, \"${PORT}\"]\n" + indented([]string{
			"stop_command: [test-container, stop, box]", "env: {CONTAINERS: \"" + m.containers + "\"}",
		})
	}
	m.config = newTestConfig(t, text).path
	m.in = launch(t, nil, "--config", m.config)
	return m, m.pids(m.in.awaitReady())
}

// pids returns the processes of a ready server.
func (m engineMachine) pids(s control.Server) []int {
	m.in.t.Helper()
	pids := []int{s.PID}
	if found := loggedWorker.FindAllStringSubmatch(m.in.logged(), -1); found != nil {
		worker, _ := strconv.Atoi(found[len(found)-1][1])
		pids = append(pids, worker)
	}
	if raw, err := os.ReadFile(filepath.Join(m.containers, "box")); err == nil {
		pid, _ := strconv.Atoi(string(raw))
		pids = append(pids, pid)
	}
	if len(pids) != 2 {
		m.in.t.Fatalf("the processes are %v, want two", pids)
	}
	return pids
}

// engineKinds are engines with a second process that does not end by itself.
var engineKinds = map[string]struct {
	flags     string
	container bool
}{
	"a worker in its group":         {"--fork, group", false},
	"a worker with its own session": {"--fork, session", false},
	"a container":                   {"", true},
}

// TestEngineLeavesNothing: whatever ends an engine, nothing that it has started outlives it,
// neither a process that left its group nor a container.
func TestEngineLeavesNothing(t *testing.T) {
	t.Parallel()
	for kind, engine := range engineKinds {
		for how, end := range map[string]func(m engineMachine, pid int) error{
			"llmsup stops":     func(m engineMachine, _ int) error { m.in.stop(); return nil },
			"llmsup is killed": func(m engineMachine, _ int) error { return m.in.cmd.Process.Kill() },
			"it is drained": func(m engineMachine, _ int) error {
				m.in.run("drain", "--yes")
				return nil
			},
			"it is killed": func(_ engineMachine, pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
		} {
			t.Run(kind+", "+how, func(t *testing.T) {
				t.Parallel()
				m, pids := newEngineMachine(t, engine.flags, engine.container)
				if err := end(m, pids[0]); err != nil {
					t.Fatal(err)
				}
				awaitExit(t, pids...)
				if how == "it is killed" {
					m.in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != pids[0] })
					m.pids(m.in.await("ready", isReady))
				}
			})
		}
	}
}

// TestEngineOrphans: if the guard is killed together with llmsup, the next llmsup ends what
// is left before it starts the engine, also in a container whose name is taken.
func TestEngineOrphans(t *testing.T) {
	t.Parallel()
	for kind, engine := range engineKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m, pids := newEngineMachine(t, engine.flags, engine.container)
			for _, child := range childrenOf(t, m.in.cmd.Process.Pid) {
				if line, _ := os.ReadFile("/proc/" + itoa(child) + "/cmdline"); strings.Contains(string(line), "llmsup-guard") {
					_ = syscall.Kill(child, syscall.SIGKILL)
				}
			}
			if err := m.in.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-m.in.done
			if engine.flags != "--fork, group" && !isRunning(pids[1]) { // a shell of the group may have been ended with it
				t.Fatal("it has ended already: this test shows nothing")
			}
			again := launchIn(t, m.in.state, nil, "--config", m.config)
			again.awaitReady()
			awaitExit(t, pids...)
		})
	}
}
