package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/demo/demotest"
)

// script writes a program that stands in front of llama-server: --help goes
// through, and everything else runs into it.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llama-server")
	text := "#!/bin/sh\n[ \"$1\" = --help ] && exec " + llamaServer(t) + " --help\n" + body + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// runSpec runs a server as it stands until the end of the test.
func runSpec(t *testing.T, spec Spec) *Server {
	t.Helper()
	spec.Name, spec.Dir = "test", shortDir(t)
	if spec.CtxSize == 0 {
		spec.CtxSize = 512
	}
	s := New(spec, nopLog, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// TestProvokedSignals: ends by signals of the kinds that no llama-server for
// this machine comes to, at the hands of a script that does.
func TestProvokedSignals(t *testing.T) {
	for name, tc := range map[string]struct {
		end   string
		class Class
		state State // where two of them lead
	}{
		"illegal instruction": {"kill -s ILL $$", IllegalInstruction, Failed},
		"segmentation fault":  {"kill -s SEGV $$", Killed, Restarting},
		"clean":               {"exit 0", Clean, Restarting},
		"the engine aborts":   {"echo 'CUDA error: an illegal memory access was encountered' >&2; kill -s ABRT $$", DriverError, Restarting},
		"no VRAM": {
			"echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory' >&2; exit 1",
			OutOfVRAM, Restarting,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := runSpec(t, Spec{Binary: script(t, tc.end), Model: "none.gguf"})
			now := await(t, s, "at rest after two ends", func(n *Snapshot) bool {
				return n.State == Failed || n.State == Restarting && n.Restarts >= 1 && n.PID == 0
			})
			if now.State != tc.state || now.LastExit.Class != tc.class {
				t.Errorf("%s, class %s (%s); want %s, %s", now.State, now.LastExit.Class, now.Reason, tc.state, tc.class)
			}
		})
	}
}

// TestRealOOMKill: the kernel kills a real llama-server that outgrows its
// memory cgroup. To make one takes root.
func TestRealOOMKill(t *testing.T) {
	group := memoryCgroup(t, 64<<20)
	s := runSpec(t, Spec{
		Binary: script(t, fmt.Sprintf("echo $$ > %s/cgroup.procs; exec %s \"$@\"", group, llamaServer(t))),
		Model:  demotest.Slow(t), Args: []string{"--load-mode", "none"},
	})
	now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
	if e := now.LastExit; e.Class != OutOfRAM || e.Signal != "SIGKILL" || !strings.Contains(e.Cause, "the kernel killed it because memory ran out") {
		t.Errorf("exit %+v", e)
	}
	if now.State != Restarting {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
}

// memoryCgroup makes a cgroup that may hold so many bytes, in the layout of
// either version.
func memoryCgroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		notRun(t, "to make a memory cgroup takes root")
	}
	var errs []error
	for root, file := range map[string]string{"/sys/fs/cgroup": "memory.max", "/sys/fs/cgroup/memory": "memory.limit_in_bytes"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			errs = append(errs, err)
			continue
		}
		dir := filepath.Join(root, fmt.Sprintf("llmsup-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		t.Cleanup(func() { // once the server is gone; what it held is given back after that
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		if err := os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, limit), 0o600); err != nil {
			errs = append(errs, err)
			continue
		}
		return dir
	}
	notRun(t, fmt.Sprintf("this machine lets no memory cgroup be made: %v", errors.Join(errs...)))
	return ""
}

// notRun skips a test that this user or this machine can't run, and has
// scripts/test.sh name it in its last lines.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), strings.ReplaceAll(why, "\n", "; "))
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}
