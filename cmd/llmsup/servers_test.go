package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestSeveralServers: a server that fails does not affect the others.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken.gguf")
	whole, err := os.ReadFile(demoModel(t))
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
		t.Errorf("the good server was restarted: %+v", now)
	}

	// Once the file is repaired, the server starts without a command.
	if err := os.WriteFile(broken, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	in.awaitServer(1, "ready", isReady)
	code, out := in.run("logs", "-n", "1000")
	for _, want := range []string{"demo: ", "other: ", "corrupted or incomplete"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("llmsup logs: exit %d, and no %q in\n%s", code, want, out)
		}
	}
}

// TestLogsFollow: llmsup logs -f shows what llama-server prints as it does.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo")
	in.awaitReady()
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan control.LogLine, 1000)
	ended := make(chan error, 1)
	go func() {
		ended <- in.client.Logs(ctx, control.LogsRequest{Follow: true}, func(line control.LogLine) error { lines <- line; return nil })
	}()
	deadline := time.After(testTimeout)
	for seen := false; !seen; {
		in.chat("local", `,"max_tokens":1`) // llama-server logs every call
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
	code, out := in.run("logs", "-n", "3")
	if code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(out, "demo: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}
