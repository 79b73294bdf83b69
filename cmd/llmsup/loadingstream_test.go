package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// stoppedLlamaServer writes a llama-server whose process is stopped while it loads, until it
// receives SIGCONT.
func stoppedLlamaServer(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "llama-server")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*--help* | *--version*) ;;\n*) kill -STOP $$ ;;\nesac\nexec %q \"$@\"\n", llamaServer(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// gatedLlamaServer writes a llama-server that loads its model only while loads was not called with false.
func gatedLlamaServer(t *testing.T) (path string, loads func(bool)) {
	t.Helper()
	dir := t.TempDir()
	path, gate := filepath.Join(dir, "llama-server"), filepath.Join(dir, "shut")
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*--help* | *--version*) ;;\n*) while [ -e %q ]; do sleep 0.1; done ;;\nesac\nexec %q \"$@\"\n", gate, llamaServer(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, func(open bool) {
		err := os.WriteFile(gate, nil, 0o600)
		if open {
			err = os.Remove(gate)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// continueLoad continues the process of a stoppedLlamaServer, once it is stopped.
func continueLoad(t *testing.T, pid int) {
	t.Helper()
	if !eventually(testTimeout, func() bool {
		stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
		return err == nil && strings.Contains(string(stat), ") T ")
	}) {
		t.Fatalf("process %d is not stopped", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestStreamsWaitForTheModel: streams that wait for their model begin after 10 s, with a
// comment, and are answered once llama-server has loaded it.
func TestStreamsWaitForTheModel(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo", "--llama-server", stoppedLlamaServer(t))
	server := in.await("its process runs", func(s control.Server) bool { return s.PID > 0 && s.State != "ready" })

	client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("k"))
	sdk := make(chan string, 1) // the text that an SDK reads
	go func() {
		stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
			Model: "local", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Count.")}, MaxTokens: openai.Int(5),
		})
		var text strings.Builder
		for stream.Next() {
			for _, choice := range stream.Current().Choices {
				text.WriteString(choice.Delta.Content)
			}
		}
		sdk <- fmt.Sprint(text.String(), stream.Err())
	}()
	in.await("the SDK's call waits", func(s control.Server) bool { return s.Queued == 1 })

	began := time.Now()
	resp, err := http.Post(in.url+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"local","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"Count."}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if after := time.Since(began); after < 10*time.Second || resp.StatusCode != 200 || resp.Header.Get("X-Llmsup-Queue") != "2" || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("after %s: %d %v", after, resp.StatusCode, resp.Header)
	}
	continueLoad(t, server.PID)
	body, err := io.ReadAll(resp.Body)
	comments, events, _ := strings.Cut(string(body), "data: ")
	const comment = ": waiting for the model\n\n" // and again every 15 s
	if err != nil || comments == "" || strings.ReplaceAll(comments, comment, "") != "" || !strings.HasPrefix(events, "{") || !strings.HasSuffix(events, "data: [DONE]\n\n") {
		t.Errorf("%v: %s", err, body)
	}
	if resp.Trailer.Get("X-Llmsup-Backend") != "demo" {
		t.Errorf("trailers %v", resp.Trailer)
	}
	if got := <-sdk; got != " 1 2 3 4 5<nil>" {
		t.Errorf("the SDK read %q", got)
	}
}
