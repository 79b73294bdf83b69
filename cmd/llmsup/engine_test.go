package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/enginetest"
)

// engineServer is a server that runs the engine of the tests. more are lines of its entry.
func engineServer(name, flags string, more ...string) string {
	return fmt.Sprintf("  %s:\n    command: [test-engine, --port, \"${PORT}\", %s]\n", name, flags) + indented(more)
}

func indented(lines []string) (text string) {
	for _, line := range lines {
		text += "    " + line + "\n"
	}
	return text
}

// onPort makes a request to an engine itself.
func (in *instance) onPort(pid int, path string) string {
	in.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		in.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "\x00--port\x00")
	port, _, _ := strings.Cut(after, "\x00")
	resp, err := http.Get("http://127.0.0.1:" + port + path)
	if err != nil {
		return err.Error() // some of these requests end the engine
	}
	defer resp.Body.Close()
	return resp.Status
}

// TestEngine: a server with a command starts, serves calls of several kinds without any key,
// and is restarted after a crash.
func TestEngine(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n"+engineServer("voice", "--start, 200ms", "env: {SECRET: env-secret}")).path)
	first := in.awaitReady()
	if first.Slots != 0 || !strings.HasSuffix(first.Model, "/test-engine") || first.PID == 0 {
		t.Errorf("%+v", first)
	}
	whole := ""
	for n := range enginetest.SpeechChunks {
		whole += enginetest.SpeechChunk(n)
	}
	for path, tc := range map[string]struct{ body, want string }{
		"/v1/chat/completions":   {`{"model":"local/voice","messages":[{"role":"user","content":"count"}]}`, `" 1 2 3"`},
		"/v1/audio/speech":       {`{"model":"local/voice","input":"hello"}`, whole},
		"/v1/images/generations": {`{"model":"local/voice","prompt":"x"}`, `aW1hZ2U=`},
		"/v1/embeddings":         {`{"model":"local/voice","input":["a","b"]}`, `0.25`},
	} {
		r := in.post(path, tc.body)
		if r.status != 200 || !strings.Contains(r.body, tc.want) || r.backend() != "voice" {
			t.Errorf("%s: %+v", path, r)
		}
		if key := r.header.Get("X-Engine-Authorization"); key != "" {
			t.Errorf("%s: the engine has received the key %q", path, key)
		}
	}
	in.onPort(first.PID, "/test/exit?code=3&line=error:+out+of+luck")
	second := in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != first.PID })
	if e := second.LastExit; e == nil || e.Code != 3 || e.Class != "unknown" || second.Restarts != 1 {
		t.Errorf("%+v", second)
	}
	if log := in.logged(); strings.Contains(log, "env-secret") || strings.Contains(log, "out of luck") {
		t.Error("the log has a variable's value, or a line of an engine that served")
	}
	in.stop()
	awaitExit(t, second.PID)
}

// TestEngineHangs: an engine that answers nothing and computes nothing is replaced; calls that
// wait for it move at once. One that is only slow is not.
func TestEngineHangs(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	text := "servers:\n" + engineServer("e", "--work, 10s", "stall_timeout: 5s") +
		"upstreams:\n  openrouter: {base_url: \"" + c.URL + "/api/v1\", api_key_env: TEST_OPENROUTER_KEY}\n" +
		"routes:\n  e: {primary: e, fallback: openrouter, fallback_model: vendor/e}\n"
	in := launch(t, c.env(), "--config", newTestConfig(t, text).path)
	before := in.awaitReady()
	if r := in.chat("e", ""); r.status != 200 || r.backend() != "e" {
		t.Errorf("a call that takes twice the stall timeout: %+v", r)
	}
	done := make(chan reply, 1)
	go func() { done <- in.chat("e", "") }()
	in.awaitStatus("a call", func(s control.Status) bool { return s.Servers[0].Busy > 0 })
	in.onPort(before.PID, "/test/hang")
	if r := <-done; r.status != 200 || r.backend() != "openrouter" || r.reason() != "stalled" {
		t.Errorf("a call of an engine that hangs: %+v", r)
	}
	after := in.await("ready again", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	if after.LastExit == nil || after.LastExit.Class != "wedged" {
		t.Errorf("%+v", after.LastExit)
	}
}

// TestEngineReload: a change of a command replaces that engine alone, and a server may become
// one of another engine.
func TestEngineReload(t *testing.T) {
	t.Parallel()
	file := newTestConfig(t, "servers:\n"+engineServer("a", "", "env: {X: one}")+engineServer("b", ""))
	in := launch(t, nil, "--config", file.path)
	a, b := in.awaitServer(0, "ready", isReady), in.awaitServer(1, "ready", isReady)
	file.write("servers:\n" + engineServer("a", "", "env: {X: two}") + engineServer("b", ""))
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "server a: changed; its process is replaced") || strings.Contains(out, "server b") || strings.Contains(out, "two") {
		t.Errorf("%d: %s", code, out)
	}
	in.awaitServer(0, "another process", func(s control.Server) bool { return isReady(s) && s.PID != a.PID })
	file.write("servers:\n  a: {model: " + demoModel(t) + "}\n" + engineServer("b", ""))
	in.reload()
	in.awaitServer(0, "llama-server", func(s control.Server) bool { return isReady(s) && s.CtxSize > 0 })
	if r := in.chat("local/a", ""); r.status != 200 || r.backend() != "a" {
		t.Errorf("llama-server: %+v", r)
	}
	if now := in.awaitServer(1, "ready", isReady); now.PID != b.PID || now.Restarts != 0 {
		t.Errorf("the other engine was replaced: %+v", now)
	}
	file.write("servers:\n" + engineServer("a", "") + engineServer("b", ""))
	in.reload()
	in.awaitServer(0, "the engine", func(s control.Server) bool { return isReady(s) && strings.HasSuffix(s.Model, "test-engine") })
	if r := in.post("/v1/audio/speech", `{"model":"local/a","input":"hello"}`); r.status != 200 || r.backend() != "a" {
		t.Errorf("the engine again: %+v", r)
	}
}

// TestEngineOnDemand: a call loads an engine, and llmsup unload ends its process.
func TestEngineOnDemand(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n"+engineServer("e", "--start, 300ms", "load: on_demand", "vram: 4GiB")).path)
	in.await("unloaded", func(s control.Server) bool { return s.State == "unloaded" })
	if r := in.post("/v1/audio/speech", `{"model":"local/e","input":"hello"}`); r.status != 200 || r.backend() != "e" {
		t.Errorf("%+v", r)
	}
	loaded := in.awaitReady()
	if code, out := in.run("unload", "e"); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	awaitExit(t, loaded.PID)
	if code, out := in.run("load", "e"); code != 0 || !isReady(in.awaitReady()) {
		t.Errorf("%d: %s", code, out)
	}
}

// TestLlamaServerAsEngine: the real llama-server as a server with a command.
func TestLlamaServerAsEngine(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n  e:\n    command: ["+llamaServer(t)+", --model, "+demoModel(t)+", --host, 127.0.0.1, --port, \"${PORT}\"]\n    slots: 2\n").path)
	if s := in.awaitReady(); s.Slots != 2 {
		t.Errorf("%+v", s)
	}
	for _, stream := range []string{"true", "false"} {
		if r := in.chat("local/e", `,"max_tokens":5,"stream":`+stream); r.status != 200 || r.backend() != "e" || !strings.Contains(r.body, "3") {
			t.Errorf("%+v", r)
		}
	}
}

// TestEngineSleeps: an engine that can sleep keeps its process when its model is unloaded.
func TestEngineSleeps(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n"+engineServer("e", "", "load: on_demand", "sleep: {path: \"/sleep?level=1\", wake: /wake_up}")).path)
	speak := func() {
		t.Helper()
		if r := in.post("/v1/audio/speech", `{"model":"local/e","input":"hello"}`); r.status != 200 || r.backend() != "e" {
			t.Errorf("%+v", r)
		}
	}
	speak()
	loaded := in.awaitReady()
	if code, out := in.run("unload", "e"); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	if asleep := in.await("unloaded", func(s control.Server) bool { return s.State == "unloaded" }); asleep.PID != loaded.PID {
		t.Errorf("asleep: %+v", asleep)
	}
	speak()
	if awake := in.awaitReady(); awake.PID != loaded.PID || awake.Restarts != loaded.Restarts {
		t.Errorf("awake: %+v", awake)
	}
	in.run("unload", "e")
	in.stop()
	awaitExit(t, loaded.PID)
}
