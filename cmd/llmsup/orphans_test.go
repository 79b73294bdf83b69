package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestKilledDaemonLeavesNothing: after kill -9 of llmsup its llama-server exits, in every
// state. A llama-server that another program started keeps running, also at the next
// start of llmsup.
func TestKilledDaemonLeavesNothing(t *testing.T) {
	t.Parallel()
	foreign := exec.Command(llamaServer(t), "--model", demotest.Slow(t), "--host", filepath.Join(shortDir(t), "x.sock"), "--port", "0")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = foreign.Process.Kill(); _ = foreign.Wait() }()
	c := newFakeCloud(t)
	config := c.serverConfig(t, demotest.Slow(t), "30s")
	for name, until := range map[string]func(*instance) int{
		"loading": func(in *instance) int {
			return in.await("started", func(s control.Server) bool { return s.PID != 0 }).PID
		},
		"idle": func(in *instance) int { return in.awaitReady().PID },
		"streaming": func(in *instance) int {
			pid := in.awaitReady().PID
			manyCalls(t, in, 4)
			return pid
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := launch(t, c.env(), "--config", config)
			pid := until(in)
			if err := in.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			awaitExit(t, pid)
			<-in.done
			again := launchIn(t, in.state, c.env(), "--config", config)
			again.awaitReady()
			if !isRunning(foreign.Process.Pid) {
				t.Fatal("a foreign llama-server was killed")
			}
		})
	}
}

// childrenOf returns the children of a process. Each thread has its own list: a child is in
// the list of the thread that started it.
func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil || len(lists) == 0 {
		t.Fatalf("the children of process %d: %v", parent, err)
	}
	var pids []int
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(raw)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestKilledDaemon: after kill -9 of llmsup its llama-server exits within 2 s. That time is part of the contract. Below
// a wrapper that does not exec it, llama-server does not get the kernel's parent-death signal.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	wrapper := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\n"+llamaServer(t)+" \"$@\"\nexit $?\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		llamaServer string
		below       int // processes below the one that llmsup has started
	}{
		"its child":       {llamaServer(t), 0},
		"below a wrapper": {wrapper, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, "the exit of llama-server", func() (took, most time.Duration) {
				in := launch(t, nil, "--demo", "--llama-server", tc.llamaServer)
				leader := in.awaitReady().PID
				pids := append(childrenOf(t, leader), leader)
				if len(pids) != 1+tc.below {
					t.Fatalf("%d processes below the one that llmsup has started, want %d", len(pids)-1, tc.below)
				}
				killed := time.Now()
				if err := in.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				awaitExit(t, pids...)
				return time.Since(killed), 2 * time.Second
			})
		})
	}
}
