package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// serverConfig writes a llmsup.yaml that runs a model as the server "box", with
// the cloud behind local/box.
func (c *cloud) serverConfig(t *testing.T, model, stallTimeout string, args ...string) string {
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

// within repeats a measurement until it keeps its bound, a few times at most. On a
// busy machine the bound is as many times as long as there are runnable threads for
// each core: what the load adds to a time is not the program's.
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

// threadsPerCore is how many threads a core has had to run in the last minute, 1 at
// least and 10 at most.
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

// outcome is how a call ended that was under way when the server was hit.
type outcome struct {
	stream    bool
	committed bool // it had had a first answer before
	backend   string
	reason    string
	body      string
	err       error
}

// manyCalls has n calls under way, every other one a stream, and returns when
// the server works on all of them. Their outcomes come once wait is called.
func manyCalls(t *testing.T, in *instance, n int) (hit func(), wait func() []outcome) {
	t.Helper()
	var mu sync.Mutex
	var outcomes []outcome
	struck := false
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			o := outcome{stream: i%2 == 0}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions",
				strings.NewReader(fmt.Sprintf(`{"model":"local/box","stream":%t,"messages":[{"role":"user","content":"x"}]}`, o.stream)))
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				mu.Lock()
				o.committed = !struck
				mu.Unlock()
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
	return func() {
			mu.Lock()
			defer mu.Unlock()
			struck = true
		}, func() []outcome {
			calls.Wait()
			return outcomes
		}
}

// judge checks the outcomes: whoever had no answer yet has one from the cloud,
// and whoever had the beginning of one sees that it broke.
func judge(t *testing.T, c *cloud, outcomes []outcome) {
	t.Helper()
	moved := 0
	for _, o := range outcomes {
		switch {
		case o.committed:
			if o.err == nil || strings.Contains(o.body, "[DONE]") {
				t.Errorf("a stream that was cut looks whole: %.100q ... %v", o.body, o.err)
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
	if asked := len(c.asked()); asked != moved {
		t.Errorf("the cloud was asked %d times for %d calls", asked, moved)
	}
}

// TestServerKilledUnderLoad: kill -9 of llama-server with 50 calls in flight.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	within(t, "the server that was killed", func() (took, most time.Duration) { return killedUnderLoad(t) })
}

// killedUnderLoad returns after how long the server was ready again, and after
// how long it has to be.
func killedUnderLoad(t *testing.T) (took, most time.Duration) {
	t.Helper()
	c := newCloud(t)
	began := time.Now()
	in := launch(t, c.env(), "--config", c.serverConfig(t, demotest.Slow(t), "30s", "-np", "16"))
	before := in.awaitReady()
	load := time.Since(began) // with llmsup's own start in it, so a little more
	hit, wait := manyCalls(t, in, 50)
	hit()
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for runs(before.PID) { // giving its memory back takes the kernel a while
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	if r := in.chat("local/box", ""); r.backend() != "openrouter" || r.reason() != "restarting" {
		t.Errorf("100 ms after its exit a new call went to %q (%s)", r.backend(), r.reason())
	}
	c.forget(1)
	judge(t, c, wait())
	after := in.awaitReady()
	if after.LastExit == nil || after.LastExit.Class != "signal" {
		t.Errorf("last exit %+v", after.LastExit)
	}
	return after.Since.Sub(killed), load + 1500*time.Millisecond
}

// TestServerStoppedUnderLoad: SIGSTOP of llama-server. Calls that wait move
// within the stall timeout and a second, not at 60 s each; it is replaced.
func TestServerStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	within(t, "the last call on the server that was stopped", func() (took, most time.Duration) { return stoppedUnderLoad(t) })
}

// stoppedUnderLoad returns after how long the last call was over, and after how
// long it has to be.
func stoppedUnderLoad(t *testing.T) (took, most time.Duration) {
	t.Helper()
	const stall = 2 * time.Second
	c := newCloud(t)
	in := launch(t, c.env(), "--config", c.serverConfig(t, demotest.Slow(t), stall.String()))
	before := in.awaitReady()
	hit, wait := manyCalls(t, in, 12)
	hit()
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	outcomes := wait()
	took = time.Since(stopped)
	judge(t, c, outcomes)
	for _, o := range outcomes {
		if !o.committed && o.reason != "stalled" && o.reason != "restarting" { // those in the queue had not been given to it
			t.Errorf("a call that waited on it left because of %q", o.reason)
		}
	}
	after := in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	if after.LastExit == nil || after.LastExit.Class != "wedged" || runs(before.PID) {
		t.Errorf("last exit %+v", after.LastExit)
	}
	return took, stall + time.Second
}

// TestRestartUnderLoad: an operator replaces the process, and no caller notices.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
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
	code, out := exec1(t, "restart", "--control-socket", in.state+"/c.sock")
	stop()
	callers.Wait()
	if code != 0 || !strings.Contains(out, "demo: draining: a restart was asked for") || !strings.HasSuffix(out, "demo: ready\nreplaced, and in use again\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if after := in.awaitReady(); after.PID == before.PID || after.LastExit != nil {
		t.Errorf("%+v", after)
	}
}

// TestLlmsupThatSlept: a llmsup that was stopped for longer than the stall
// timeout, as on a paused machine, does not blame its server.
func TestLlmsupThatSlept(t *testing.T) {
	t.Parallel()
	model, err := demo.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := newCloud(t)
	in := launch(t, c.env(), "--config", c.serverConfig(t, model, "2s"))
	before := in.awaitReady()
	if err := in.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(9 * time.Second)
	if err := in.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if after := in.awaitReady(); after.PID != before.PID || after.Restarts != 0 {
		t.Errorf("the server was replaced: %+v", after)
	}
}
