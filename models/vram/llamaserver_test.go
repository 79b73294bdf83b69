package vram

import (
	"bufio"
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

// TestLlamaServer compares the estimate with what llama-server prints that it needs, for
// each architecture. models/README.md has the figures, and those of a GPU.
//
// Before llama-server loads a model it adds up what it will need (--fit), which takes
// no memory. It is stopped then, and has too little address space to go on meanwhile.
func TestLlamaServer(t *testing.T) {
	for _, a := range testedArchitectures {
		t.Run(a.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			a.write(t, path)
			h, err := gguf.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range []string{"-np 1", "-np 4", "-np -1 -ub 128", "-np 16 -ub 64"} {
				got := Estimate(h, Run{CtxSize: 4096, GPULayers: 99, Args: strings.Fields(args)})
				log := plan(t, path, args)
				// A CPU has the embedding once, and its weights are all in one buffer.
				want := total(t, log, `Host +\| +\d+ = +(\d+) \+`)
				sum, wantSum := float64(h.TensorBytes+got.KV+got.Compute-Driver)/mib, want
				if weights := float64(h.TensorBytes) / mib; math.Abs(weights-want) > 1 {
					t.Errorf("%s: weights are %.1f MiB, want %.0f", args, weights, want)
				}
				want = 0
				if !withoutCache[h.Architecture] {
					want = total(t, log, `llama_(?:kv_cache|memory_recurrent): size = +([\d.]+) MiB`)
				}
				if kv := float64(got.KV) / mib; math.Abs(kv-want) > 0.01 {
					t.Errorf("%s: KV is %.2f MiB, want %.2f", args, kv, want)
				}
				wantSum += want
				want = total(t, log, `CPU compute buffer size = +([\d.]+) MiB`)
				if compute := float64(got.Compute-Driver) / mib; compute < min(0.9*want, want-2) || compute > max(1.2*want, want+2) {
					t.Errorf("%s: compute is %.1f MiB, want %.1f", args, compute, want)
				}
				wantSum += want
				if off := sum/wantSum - 1; math.Abs(off) > 0.05 {
					t.Errorf("%s: all are %.1f MiB, want %.1f: %+.1f %%", args, sum, wantSum, 100*off)
				} else {
					t.Logf("%s: all are %.1f MiB, want %.1f: %+.1f %%", args, sum, wantSum, 100*off)
				}
			}
		})
	}
}

// plan starts llama-server and returns its log up to the sum of what it will need.
func plan(t *testing.T, model, args string) string {
	t.Helper()
	server := os.Getenv("LLMSUP_TEST_LLAMA_SERVER")
	if server == "" {
		var err error
		if server, err = exec.LookPath("llama-server"); err != nil {
			t.Fatalf("no llama-server on PATH nor in LLMSUP_TEST_LLAMA_SERVER: run scripts/test.sh, which gets one (%v)", err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{
		"-c", `ulimit -v 1000000 && exec "$0" "$@"`, server, "--model", model, "--host", filepath.Join(t.TempDir(), "s.sock"), "--ctx-size", "4096", "--fit", "on", "--no-warmup", "--verbose",
	}, strings.Fields(args)...)...)
	// The kernel kills the server when this thread ends, and so if the test is killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	lines := bufio.NewScanner(out)
	complete := false
	for !complete && lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		complete = strings.Contains(lines.Text(), "projected to use")
	}
	stop()
	_ = cmd.Wait() // it was killed
	if !complete {
		t.Fatalf("llama-server %s ended before it had planned its memory:\n%s", args, log.String()[max(0, log.Len()-2000):])
	}
	return log.String()
}

// total adds up the numbers that a pattern finds in a log.
func total(t *testing.T, log, pattern string) (sum float64) {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(log, -1)
	if len(found) == 0 {
		t.Fatalf("llama-server did not print %s", pattern)
	}
	for _, match := range found {
		n, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
