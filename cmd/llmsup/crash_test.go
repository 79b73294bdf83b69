package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo"
)

// slowModel makes a counting model that takes its time for every token.
func slowModel(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slow.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(demo.Write(f, demo.Slow), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// serverConfig writes a llmsup.yaml that runs a model as the server "box", with
// the cloud behind local/box.
func (c *cloud) serverConfig(t *testing.T, model, stallTimeout string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llmsup.yaml")
	text := fmt.Sprintf(`
servers:
  box:
    model: %s
    ctx_size: 32768
    stall_timeout: %s
upstreams:
  openrouter: {base_url: "%s/api/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box, fallback: openrouter, fallback_model: vendor/box, timeout: 60s}
`, model, stallTimeout, c.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// slack is what a loaded machine may add to a time; on an idle one it is some
// hundredths of a second. All that is told apart is a minute from a few seconds.
const slack = 8 * time.Second

// outcome is how a call ended that was under way when the server was hit.
type outcome struct {
	stream    bool
	committed bool // it had had a first answer before
	backend   string
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
				o.backend, o.body = resp.Header.Get("X-Llmsup-Backend"), string(body)
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
	c := newCloud(t)
	began := time.Now()
	in := launch(t, c.env(), "--config", c.serverConfig(t, slowModel(t), "30s"))
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
	// A second of pause, half a second for the rest, and what the load of the
	// tests beside this one adds.
	if took, most := after.Since.Sub(killed), load+1500*time.Millisecond+slack; took > most {
		t.Errorf("ready again after %s, want %s at most", took, most)
	}
	if after.LastExit == nil || after.LastExit.Class != "signal" {
		t.Errorf("last exit %+v", after.LastExit)
	}
}

// TestServerStoppedUnderLoad: SIGSTOP of llama-server. Calls that wait move
// within the stall timeout and a second, not at 60 s each; it is replaced.
func TestServerStoppedUnderLoad(t *testing.T) {
	const stall = 2 * time.Second
	c := newCloud(t)
	in := launch(t, c.env(), "--config", c.serverConfig(t, slowModel(t), stall.String()))
	before := in.awaitReady()
	hit, wait := manyCalls(t, in, 12)
	hit()
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	judge(t, c, wait())
	if took := time.Since(stopped); took > stall+time.Second+slack {
		t.Errorf("the last call was over after %s, with a stall timeout of %s", took, stall)
	}
	after := in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	if after.LastExit == nil || after.LastExit.Class != "wedged" || runs(before.PID) {
		t.Errorf("last exit %+v", after.LastExit)
	}
}

// TestKilledDaemonLeavesNothing: kill -9 of llmsup, whatever its child does at
// the time. Somebody else's llama-server is not touched, neither then nor at
// the next start.
func TestKilledDaemonLeavesNothing(t *testing.T) {
	stranger := exec.Command(llamaServer(t), "--model", slowModel(t), "--host", filepath.Join(shortDir(t), "x.sock"), "--port", "0")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	c := newCloud(t)
	config := c.serverConfig(t, slowModel(t), "30s")
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
			for deadline := time.Now().Add(2 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("llama-server lives 2 s after llmsup was killed")
				}
			}
			<-in.done
			again := launchIn(t, in.state, c.env(), "--config", config)
			again.awaitReady()
			if !runs(stranger.Process.Pid) {
				t.Fatal("somebody else's llama-server was ended")
			}
		})
	}
}

// TestSeveralServers: each has its own owner, log and state; one that fails
// changes nothing for the other.
func TestSeveralServers(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.gguf")
	whole, err := os.ReadFile(slowModel(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, whole[:1<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "llmsup.yaml")
	if err := os.WriteFile(config, []byte("servers:\n  other: {model: "+broken+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := launch(t, nil, "--demo", "--config", config)
	demoServer := in.awaitReady()
	if demoServer.Name != "demo" {
		t.Fatalf("the first server is %s", demoServer.Name)
	}
	failed := in.awaitServer(1, "failed for good", func(s control.Server) bool { return s.State == "failed" })
	if failed.Name != "other" || failed.LastExit.Class != "model_corrupt" || !strings.Contains(failed.Reason, "download the model again") {
		t.Errorf("%+v", failed)
	}
	if r := in.chat("local", `,"max_tokens":1`); r.status != 200 || r.backend() != "demo" {
		t.Errorf("the good server: %+v", r)
	}
	if r := in.chat("local/other", ""); r.status != 503 || r.header.Get("Retry-After") == "" {
		t.Errorf("the failed server: %+v", r)
	}
	if now := in.awaitReady(); now.PID != demoServer.PID || now.Restarts != 0 {
		t.Errorf("the good server was disturbed: %+v", now)
	}

	// Mended on disk, it comes back by itself.
	if err := os.WriteFile(broken, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	in.awaitServer(1, "ready", isReady)
	code, out := exec1(t, "logs", "--control-socket", in.state+"/c.sock", "-n", "1000")
	for _, want := range []string{"demo: ", "other: ", "corrupted or incomplete"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("llmsup logs: exit %d, and no %q in\n%s", code, want, out)
		}
	}
}

// TestLogsFollow: llmsup logs -f shows what llama-server prints as it does.
func TestLogsFollow(t *testing.T) {
	in := launch(t, nil, "--demo")
	in.awaitReady()
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan control.LogLine, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- in.client.Logs(ctx, 0, true, func(line control.LogLine) error { lines <- line; return nil })
	}()
	deadline := time.After(20 * time.Second)
	for seen := false; !seen; {
		in.chat("local", `,"max_tokens":1`) // llama-server says something about every call
		select {
		case line := <-lines:
			seen = line.Server == "demo" && line.Text != ""
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			t.Fatal("no line of a call's came")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	code, out := exec1(t, "logs", "--control-socket", in.state+"/c.sock", "-n", "3")
	if code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(out, "demo: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestRestartUnderLoad: an operator replaces the process, and no caller notices.
func TestRestartUnderLoad(t *testing.T) {
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
	if code != 0 || !strings.Contains(out, "demo: draining: a restart was asked for") || !strings.HasSuffix(out, "demo: ready\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if after := in.awaitReady(); after.PID == before.PID || after.LastExit != nil {
		t.Errorf("%+v", after)
	}
}

// TestLlmsupThatSlept: a llmsup that was stopped for longer than the stall
// timeout, as on a paused machine, does not blame its server.
func TestLlmsupThatSlept(t *testing.T) {
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

// TestKilledDaemonBelowAWrapper: a wrapper that does not exec llama-server puts
// it out of reach of the kernel's parent-death signal.
func TestKilledDaemonBelowAWrapper(t *testing.T) {
	wrapper := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\n"+llamaServer(t)+" \"$@\"\nexit $?\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := launch(t, nil, "--demo", "--llama-server", wrapper)
	leader := in.awaitReady().PID
	below := childrenOf(t, leader)
	if len(below) != 1 {
		t.Fatalf("%d processes below the wrapper, want llama-server", len(below))
	}
	if err := in.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Second); runs(leader) || runs(below[0]); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("llama-server lives 2 s after llmsup was killed")
		}
	}
}

func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}
