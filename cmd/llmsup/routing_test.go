package main

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestDemoCounts: the demo model answers with numbers.
func TestDemoCounts(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo", "--", "--threads", "1")
	pid := in.awaitReady().PID

	r := in.chat("local", `,"max_tokens":5`)
	if r.readErr != nil || r.status != 200 || gjson.Get(r.body, "choices.0.message.content").Str != " 1 2 3 4 5" {
		t.Errorf("%+v", r)
	}
	if r.backend() != "demo" {
		t.Errorf("answered by %q", r.backend())
	}
	r = in.chat("local/demo", `,"max_tokens":3,"stream":true`)
	text := ""
	for line := range strings.Lines(r.body) {
		text += gjson.Get(strings.TrimPrefix(line, "data: "), "choices.0.delta.content").Str
	}
	if r.readErr != nil || text != " 1 2 3" || !strings.HasSuffix(r.body, "data: [DONE]\n\n") {
		t.Errorf("stream %q: %+v", text, r)
	}
	if r = in.post("/v1/completions", `{"model":"local","prompt":" 57","max_tokens":2}`); gjson.Get(r.body, "choices.0.text").Str != " 58 59" {
		t.Errorf("completion: %+v", r)
	}
	if r = in.post("/tokenize", `{"content":" 1 2"}`); len(gjson.Get(r.body, "tokens").Array()) != 2 {
		t.Errorf("tokenize: %+v", r)
	}

	in.stop()
	if in.err != nil {
		t.Errorf("after Ctrl-C: %v", in.err)
	}
	if isRunning(pid) {
		t.Error("llama-server outlives llmsup")
	}
}

// TestKilledServer: after llama-server is killed the fallback answers the next calls, and
// llmsup starts llama-server again.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	path, loads := gatedLlamaServer(t)
	in := launch(t, c.env(), "--demo", "--config", c.config(t, "60s"), "--llama-server", path)
	before := in.awaitReady()
	loads(false) // until the calls have been made
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	in.await("not ready", func(s control.Server) bool { return s.State != "ready" })
	for _, more := range []string{"", `,"stream":true`} {
		r := in.chat("local/demo", more)
		if r.readErr != nil || r.status != 200 || !strings.Contains(r.body, "from the cloud") {
			t.Errorf("%+v", r)
		}
		if r.backend() != "openrouter" || !isReplacedReason(r.reason()) {
			t.Errorf("answered by %q because of %q", r.backend(), r.reason())
		}
	}
	if got, want := c.requestedModels(), []string{"qwen/qwen-2.5-14b-instruct", "qwen/qwen-2.5-14b-instruct"}; !slices.Equal(got, want) {
		t.Errorf("the cloud got calls for %q", got)
	}
	loads(true)
	after := in.awaitReady()
	if after.PID == before.PID || after.Restarts != 1 || after.LastExit == nil || after.LastExit.Signal != "SIGKILL" {
		t.Errorf("after the restart: %+v", after)
	}
	if r := in.chat("local/demo", `,"max_tokens":1`); r.backend() != "demo" {
		t.Errorf("once ready again, answered by %q", r.backend())
	}
	if metrics := in.get("/metrics"); !strings.Contains(metrics, `llmsup_server_restarts_total{class="signal",server="demo"} 1`) || !strings.Contains(metrics, `llmsup_server_restarts_total{class="out_of_ram",server="demo"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

func TestPremiumGoesStraightToTheCloud(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--demo", "--config", c.config(t, "60s"))
	pid := in.awaitReady().PID
	for _, model := range []string{"gpt-4o", "anthropic/claude-3.5-sonnet"} {
		if r := in.chat(model, ""); r.status != 200 || r.backend() != "openrouter" || r.reason() != "" {
			t.Errorf("%s: %+v", model, r)
		}
	}
	if got, want := c.requestedModels(), []string{"openai/gpt-4o", "anthropic/claude-3.5-sonnet"}; !slices.Equal(got, want) {
		t.Errorf("the cloud got calls for %q, want %q", got, want)
	}
	if c.auth[0] != "Bearer "+cloudKey {
		t.Errorf("the cloud got Authorization %q", c.auth[0])
	}
	if r := in.chat("no-such-model", ""); r.status != 404 || gjson.Get(r.body, "error.code").Str != "model_not_found" {
		t.Errorf("unknown model: %+v", r)
	}

	// No key is in the environment of llama-server or in the log.
	for _, file := range []string{"environ", "cmdline"} {
		raw, err := os.ReadFile("/proc/" + itoa(pid) + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), cloudKey) {
			t.Errorf("llama-server's %s has the cloud's key", file)
		}
	}
	in.stop() // its log is whole then
	if log := in.logged(); strings.Contains(log, cloudKey) || strings.Contains(log, "client-secret") || strings.Contains(log, `"count"`) {
		t.Error("a key or a prompt is in the log")
	}
}

// TestHungServer: if llama-server hangs, the fallback answers 250 ms after the route's
// timeout at the latest. That time is part of the contract.
func TestHungServer(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	config := c.serverConfig(t, demoModel(t), "10m") // no replacement of it while the test runs
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "timeout: 60s}", "timeout: 700ms}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	in := launch(t, c.env(), "--config", config)
	pid := in.awaitReady().PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT) //nolint:errcheck // it runs
	const timeout = 700 * time.Millisecond
	within(t, "the fallback's answer", func() (late, most time.Duration) {
		began := time.Now()
		r := in.chat("local/box", "")
		took := time.Since(began)
		if r.readErr != nil || r.reason() != "timeout" || !strings.Contains(r.body, "from the cloud") || took < timeout {
			t.Errorf("after %s: %+v", took, r)
		}
		return took - timeout, 250 * time.Millisecond
	})
}

// TestCutStream: a stream that llama-server does not complete ends with an error.
func TestCutStream(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n  slow: {model: "+demotest.Slow(t)+", ctx_size: 32768}\n").path)
	pid := in.awaitReady().PID
	resp, err := http.Post(in.url+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"local","stream":true,"messages":[{"role":"user","content":"x"}]}`)) // all 3000 numbers, for a minute or more
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	start := make([]byte, 2000)
	if _, err := io.ReadFull(resp.Body, start); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(resp.Body)
	if err == nil {
		t.Error("the body ended cleanly")
	}
	if strings.Contains(string(rest), "[DONE]") {
		t.Fatal("the stream was over before the kill; the test shows nothing")
	}
	events := strings.Split(strings.TrimSpace(string(rest)), "\n\n")
	last := strings.TrimPrefix(events[len(events)-1], "data: ")
	if gjson.Get(last, "error.code").Str != "lost" {
		t.Errorf("the last event is %s, want an error", last)
	}
}

// TestLargeBodyThroughTheDaemon: a body of 20 MB, with a number that parsers would
// change, reaches the cloud unchanged except for the model.
func TestLargeBodyThroughTheDaemon(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--demo", "--config", c.config(t, "60s"))
	image := make([]byte, 15<<20)
	_, _ = rand.Read(image)
	body := `{ "temperature":1e400, "model" : "gpt-4o","unknown":{"model":[]},"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` +
		base64.StdEncoding.EncodeToString(image) + `"}}]}]}`
	if r := in.post("/v1/chat/completions", body); r.readErr != nil || r.status != 200 {
		t.Fatalf("%+v", r)
	}
	if want := strings.Replace(body, `"gpt-4o"`, `"openai/gpt-4o"`, 1); string(c.bodies[0]) != want {
		t.Errorf("another body arrived: %d bytes, want %d", len(c.bodies[0]), len(want))
	}
}
