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
