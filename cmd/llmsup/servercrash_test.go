package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// serverConfig writes a llmsup.yaml that runs a model as the server "box", with
// the cloud behind local/box.
func (c *fakeCloud) serverConfig(t *testing.T, model, stallTimeout string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llmsup.yaml")
	var quoted []string
	for _, arg := range args {
		quoted = append(quoted, strconv.Quote(arg))
	}
	text := fmt.Sprintf(`
servers:
  box:
    model: %s
    ctx_size: 32768
    stall_timeout: %s
    args: [%s]
upstreams:
  openrouter: {base_url: "%s/api/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box, fallback: openrouter, fallback_model: vendor/box, timeout: 60s}
`, model, stallTimeout, strings.Join(quoted, ", "), c.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// within repeats a measurement until it is within its bound, four times at most. On a
// busy machine the bound is multiplied by the number of runnable threads per core.
func within(t *testing.T, what string, measure func() (took, most time.Duration)) {
	t.Helper()
	const tries = 4
	var over []time.Duration
	for range tries {
		took, most := measure()
		most = time.Duration(float64(most) * threadsPerCore(t))
		if took <= most {
			return
		}
		over = append(over, took-most)
	}
	t.Errorf("%s was late %d times, by %s", what, tries, over)
}

// threadsPerCore returns the load average of the last minute divided by the number of
// cores, between 1 and 10.
func threadsPerCore(t *testing.T) float64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	load, err := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return min(max(load/float64(runtime.NumCPU()), 1), 10)
}

// outcome is how a call ended that was running when the server was killed or stopped.
type outcome struct {
	stream  bool
	backend string
	reason  string
	body    string
	err     error
}

// manyCalls starts n calls, every other one a stream, and returns when all of them
// have a slot or wait for one. wait returns their outcomes.
func manyCalls(t *testing.T, in *instance, n int) (wait func() []outcome) {
	t.Helper()
	var mu sync.Mutex
	var outcomes []outcome
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			o := outcome{stream: i%2 == 0}
			ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions",
				strings.NewReader(fmt.Sprintf(`{"model":"local/box","stream":%t,"messages":[{"role":"user","content":"x"}]}`, o.stream)))
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				o.backend, o.reason, o.body = resp.Header.Get("X-Llmsup-Backend"), resp.Header.Get("X-Llmsup-Reason"), string(body)
			}
			o.err = err
			mu.Lock()
			outcomes = append(outcomes, o)
			mu.Unlock()
		})
	}
	in.await("working on all calls", func(s control.Server) bool { return s.Busy+s.Queued == n })
	return func() []outcome {
		calls.Wait()
		return outcomes
	}
}

// checkOutcomes checks that each call without an answer was answered by the cloud, and
// that each stream with the beginning of an answer ended with an error.
func checkOutcomes(t *testing.T, c *fakeCloud, outcomes []outcome) {
	t.Helper()
	moved := 0
	for _, o := range outcomes {
		switch {
		case o.backend == "box":
			if !o.stream || !strings.Contains(o.body, `"content":" 1"`) {
				t.Errorf("a call (stream: %t) has the headers of an answer that had not begun: %q, %v", o.stream, o.body, o.err)
			}
			if o.err == nil || strings.Contains(o.body, "[DONE]") {
				t.Errorf("a stream that was cut off ended without an error: %.100q ... %v", o.body, o.err)
			}
		case o.err != nil || o.backend != "openrouter" || !strings.Contains(o.body, "from the cloud"):
			t.Errorf("a call (stream: %t) without an answer was lost: by %q, %q, %v", o.stream, o.backend, o.body, o.err)
		default:
			moved++
		}
	}
	if moved == 0 {
		t.Error("no call was without an answer: the test shows nothing")
	}
	if asked := len(c.requestedModels()); asked != moved {
		t.Errorf("the cloud got %d calls for %d calls", asked, moved)
	}
}

// TestServerKilledUnderLoad: kill -9 of llama-server with 50 calls in flight.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	within(t, "the server that was killed", func() (took, most time.Duration) { return killedUnderLoad(t) })
}

// killedUnderLoad returns how long the server took to be ready again, and how long it
// may take.
func killedUnderLoad(t *testing.T) (took, most time.Duration) {
	t.Helper()
	c := newFakeCloud(t)
	began := time.Now()
	in := launch(t, c.env(), "--config", c.serverConfig(t, demotest.Slow(t), "30s", "-np", "16"))
	before := in.awaitReady()
	load := time.Since(began) // including the start of llmsup
	wait := manyCalls(t, in, 50)
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	in.await("restarting", func(s control.Server) bool { return !isReady(s) || s.PID != before.PID })
	r := in.chat("local/box", `,"max_tokens":5`)
	switch replaced := r.backend() == "box" && r.status == 200 && in.awaitReady().PID != before.PID; {
	case r.backend() == "openrouter" && isReplacedReason(r.reason()):
		c.forget(1)
	case !replaced: // else the test was late: the next process is ready
		t.Errorf("after the exit of llama-server a new call went to %q (%s): %d", r.backend(), r.reason(), r.status)
	}
	checkOutcomes(t, c, wait())
	after := in.awaitReady()
	if after.LastExit == nil || after.LastExit.Class != "signal" {
		t.Errorf("last exit %+v", after.LastExit)
	}
	return after.Since.Sub(killed), load + 1500*time.Millisecond
}

// isReplacedReason reports whether a call that was planned after the exit of a process may have the reason, until the
// next process is ready.
func isReplacedReason(reason string) bool {
	return slices.Contains([]string{"restarting", "starting", "loading"}, reason)
}

// TestServerStoppedUnderLoad: SIGSTOP of llama-server. Waiting calls go to the fallback
// within the stall timeout and a second, and not at their own timeout of 60 s.
func TestServerStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	within(t, "the last call on the server that was stopped", func() (took, most time.Duration) { return stoppedUnderLoad(t) })
}

// stoppedUnderLoad returns how long the last call took to end, and how long it may
// take.
func stoppedUnderLoad(t *testing.T) (took, most time.Duration) {
	t.Helper()
	const stall = 2 * time.Second
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--config", c.serverConfig(t, demotest.Slow(t), stall.String()))
	before := in.awaitReady()
	wait := manyCalls(t, in, 12)
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	outcomes := wait()
	took = time.Since(stopped)
	checkOutcomes(t, c, outcomes)
	for _, o := range outcomes {
		if o.backend != "box" && o.reason != "stalled" && !isReplacedReason(o.reason) { // those in the queue had not been given to it
			t.Errorf("a call that waited on it left because of %q", o.reason)
		}
	}
	after := in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	if after.LastExit == nil || after.LastExit.Class != "wedged" || isRunning(before.PID) {
		t.Errorf("last exit %+v", after.LastExit)
	}
	return took, stall + time.Second
}

// TestRestartUnderLoad: llmsup restart replaces the process, and no call fails.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--demo", "--config", c.config(t, "60s"))
	before := in.awaitReady()
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				r := in.chat("local/demo", `,"max_tokens":50`)
				if text := " 1 2 3 4 5"; r.status != 200 || r.readErr != nil || r.backend() == "demo" && !strings.Contains(r.body, text) {
					t.Errorf("%+v", r)
				}
				if r.backend() == "openrouter" && r.reason() != "draining" && r.reason() != "starting" && r.reason() != "loading" {
					t.Errorf("a call left local because of %q", r.reason())
				}
			}
		})
	}
	code, out := in.run("restart")
	stop()
	callers.Wait()
	if code != 0 || !strings.Contains(out, "demo: draining: a restart was asked for") || !strings.HasSuffix(out, "demo: ready\nreplaced, and in use again\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if after := in.awaitReady(); after.PID == before.PID || after.LastExit != nil {
		t.Errorf("%+v", after)
	}
}

// TestPausedLlmsup: a llmsup that was stopped for longer than the stall timeout, as on
// a paused machine, does not take its server for hung.
func TestPausedLlmsup(t *testing.T) {
	t.Parallel()
	const stall = 10 * time.Second // longer than a busy machine keeps an idle server from answering probes
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--config", c.serverConfig(t, demoModel(t), stall.String()))
	before := in.awaitReady()
	if err := in.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(stall * 3 / 2) // the length of the pause is what is tested
	if err := in.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// The stall timer has expired, so a wrong verdict would come at the first probe. No
	// event shows its absence.
	if eventually(stall/2, func() bool { return answerOf(in, in.client.Status).Servers[0].PID != before.PID }) {
		t.Error("the server was replaced")
	}
	if after := in.awaitReady(); after.PID != before.PID || after.Restarts != 0 {
		t.Errorf("the server was replaced: %+v", after)
	}
}
