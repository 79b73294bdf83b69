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
	if err := syscall.Kill(server.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if text := string(body); err != nil || !strings.HasPrefix(text, ": waiting for the model\n\ndata: {") || !strings.HasSuffix(text, "data: [DONE]\n\n") {
		t.Errorf("%v: %s", err, text)
	}
	if resp.Trailer.Get("X-Llmsup-Backend") != "demo" {
		t.Errorf("trailers %v", resp.Trailer)
	}
	if got := <-sdk; got != " 1 2 3 4 5<nil>" {
		t.Errorf("the SDK read %q", got)
	}
}
