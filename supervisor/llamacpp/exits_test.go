package llamacpp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/supervisor"
)

// TestRealServerReportsItsEnd: the cause is the line with which the real llama-server
// explains its exit.
func TestRealServerReportsItsEnd(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(bad, []byte("GGUF and nothing else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spec supervisor.Spec
		want string
	}{
		"a broken model": {supervisor.Spec{Model: bad}, "model"},
		"a flag that it does not know": {
			supervisor.Spec{Model: demoModel(t), Args: []string{"--no-such-flag"}},
			"exit status 1: error: invalid argument: --no-such-flag",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.spec.Binary = llamaServer(t)
			s, _ := run(t, tc.spec)
			now := await(t, s, "an exit", hasExited)
			if now.LastExit.Code != 1 || !strings.Contains(now.LastExit.Cause, tc.want) {
				t.Errorf("exit %d, cause %q; want 1 and %q", now.LastExit.Code, now.LastExit.Cause, tc.want)
			}
			if now.State != supervisor.Restarting || !strings.Contains(now.Reason, "next start in") {
				t.Errorf("%s: %q", now.State, now.Reason)
			}
		})
	}
}

// TestRealExitClasses provokes exits of the real llama-server.
func TestRealExitClasses(t *testing.T) {
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	whole, err := os.ReadFile(demoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	limited := script(t, "ulimit -v 3000000\nexec "+llamaServer(t)+" \"$@\"")
	for name, tc := range map[string]struct {
		spec  supervisor.Spec
		class supervisor.Class
		text  string
		state supervisor.State // after two of them
	}{
		"missing model":   {supervisor.Spec{Model: "/nowhere/m.gguf"}, supervisor.ModelMissing, "check the path", supervisor.Failed},
		"truncated model": {supervisor.Spec{Model: cut}, supervisor.ModelCorrupt, "corrupted or incomplete", supervisor.Failed},
		"unknown flag":    {supervisor.Spec{Model: demoModel(t), Args: []string{"--no-such-flag"}}, supervisor.BadFlag, "--no-such-flag", supervisor.Failed},
		"bad value":       {supervisor.Spec{Model: demoModel(t), Args: []string{"--threads", "many"}}, supervisor.BadFlag, "--threads", supervisor.Failed},
		"missing binary":  {supervisor.Spec{Model: demoModel(t), Binary: "/nowhere/llama-server"}, supervisor.MissingBinary, "/nowhere/llama-server", supervisor.Failed},
		"no memory":       {supervisor.Spec{Model: demoModel(t), Binary: limited, CtxSize: 4_000_000}, supervisor.OutOfRAM, "free memory", supervisor.Restarting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.spec.Binary == "" {
				tc.spec.Binary = llamaServer(t)
			}
			s, _ := run(t, tc.spec)
			now := await(t, s, "failed, or the pause after two exits", failedOrRetried)
			if now.State != tc.state {
				t.Errorf("%s (%s), want %s", now.State, now.Reason, tc.state)
			}
			if e := now.LastExit; e.Class != tc.class || !strings.Contains(e.Cause, tc.text) {
				t.Errorf("class %s: %q; want %s with %q", e.Class, e.Cause, tc.class, tc.text)
			}
		})
	}
}

// TestProvokedSignals: a script provokes the signals that a llama-server for this machine
// does not end by.
func TestProvokedSignals(t *testing.T) {
	for name, tc := range map[string]struct {
		end   string
		class supervisor.Class
		state supervisor.State // after two of them
	}{
		"illegal instruction": {"kill -s ILL $$", supervisor.IllegalInstruction, supervisor.Failed},
		"segmentation fault":  {"kill -s SEGV $$", supervisor.Killed, supervisor.Restarting},
		"clean":               {"exit 0", supervisor.Clean, supervisor.Restarting},
		"the engine aborts":   {"echo 'CUDA error: an illegal memory access was encountered' >&2; kill -s ABRT $$", supervisor.DriverError, supervisor.Restarting},
		"no VRAM": {
			"echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory' >&2; exit 1",
			supervisor.OutOfVRAM, supervisor.Restarting,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := run(t, supervisor.Spec{Binary: script(t, tc.end), Model: "none.gguf"})
			now := await(t, s, "failed, or the pause after two exits", failedOrRetried)
			if now.State != tc.state || now.LastExit.Class != tc.class {
				t.Errorf("%s, class %s (%s); want %s, %s", now.State, now.LastExit.Class, now.Reason, tc.state, tc.class)
			}
		})
	}
}

// TestRealOOMKill: the kernel kills a real llama-server that exceeds its memory
// cgroup, which only root can create.
func TestRealOOMKill(t *testing.T) {
	group := memoryCgroup(t, 64<<20)
	s, _ := run(t, supervisor.Spec{
		Binary: script(t, fmt.Sprintf("echo $$ > %s/cgroup.procs; exec %s \"$@\"", group, llamaServer(t))),
		Model:  demotest.Slow(t), Args: []string{"--load-mode", "none"},
	})
	now := await(t, s, "an exit", hasExited)
	if e := now.LastExit; e.Class != supervisor.OutOfRAM || e.Signal != "SIGKILL" || !strings.Contains(e.Cause, "the kernel killed it because memory ran out") {
		t.Errorf("exit %+v", e)
	}
	if now.State != supervisor.Restarting {
		t.Errorf("%s: %s", now.State, now.Reason)
	}
}

// memoryCgroup creates a cgroup with a memory limit in bytes, of version 2 or 1.
func memoryCgroup(t *testing.T, limit int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		skipUnsupported(t, "only root can create a memory cgroup")
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
		t.Cleanup(func() { // once the server has ended, and the kernel has released its memory
			waitFor(t, "the removal of the cgroup", func() bool { return os.Remove(dir) == nil })
		})
		if err := os.WriteFile(filepath.Join(dir, file), fmt.Append(nil, limit), 0o600); err != nil {
			errs = append(errs, err)
			continue
		}
		return dir
	}
	skipUnsupported(t, fmt.Sprintf("this machine does not allow memory cgroups: %v", errors.Join(errs...)))
	return ""
}
