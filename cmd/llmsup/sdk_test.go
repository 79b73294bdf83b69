package main

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestOpenAISDK runs OpenAI's SDK with only the base URL and the model changed.
func TestOpenAISDK(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	in := launch(t, c.env(), "--demo", "--config", c.config(t, "60s"), "--", "--threads", "1")
	in.awaitReady()
	client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("client-secret"), option.WithMaxRetries(0))
	ask := func(model string) openai.ChatCompletionNewParams {
		return openai.ChatCompletionNewParams{
			Model:     model,
			Messages:  []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")},
			MaxTokens: openai.Int(6),
		}
	}

	t.Run("chat", func(t *testing.T) {
		for model, want := range map[string]string{"local": " 1 2 3 4 5 6", "local/demo": " 1 2 3 4 5 6", "gpt-4o": "from the cloud"} {
			got, err := client.Chat.Completions.New(t.Context(), ask(model))
			if err != nil {
				t.Fatalf("%s: %v", model, err)
			}
			if text := got.Choices[0].Message.Content; text != want {
				t.Errorf("%s answered %q, want %q", model, text, want)
			}
		}
	})

	t.Run("streaming", func(t *testing.T) {
		stream := client.Chat.Completions.NewStreaming(t.Context(), ask("local"))
		var whole openai.ChatCompletionAccumulator
		for stream.Next() {
			whole.AddChunk(stream.Current())
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if text := whole.Choices[0].Message.Content; text != " 1 2 3 4 5 6" {
			t.Errorf("streamed %q", text)
		}
	})

	t.Run("models", func(t *testing.T) {
		page, err := client.Models.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range page.Data {
			names = append(names, m.ID)
		}
		for _, want := range []string{"local", "local/demo", "gpt-4o", "gpt-4o-mini", "claude-3.5-sonnet"} {
			if !slices.Contains(names, want) {
				t.Errorf("models %q lack %s", names, want)
			}
		}
		if m, err := client.Models.Get(t.Context(), "local/demo"); err != nil || m.OwnedBy != "demo" {
			t.Errorf("one model: %+v, %v", m, err)
		}
	})

	t.Run("error", func(t *testing.T) {
		_, err := client.Chat.Completions.New(t.Context(), ask("nonsense"))
		var apiErr *openai.Error
		if !errors.As(err, &apiErr) || apiErr.StatusCode != 404 || apiErr.Code != "model_not_found" {
			t.Errorf("error %v", err)
		}
	})

	t.Run("cancelled stream", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		params := ask("local")
		params.MaxTokens = openai.Int(3000)
		stream := client.Chat.Completions.NewStreaming(ctx, params)
		defer stream.Close()
		for range 3 {
			if !stream.Next() {
				t.Fatalf("the stream ended: %v", stream.Err())
			}
		}
		cancel()
		for stream.Next() { // what was read already
		}
		if err := stream.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		in.awaitStatus("rid of the cancelled call", func(s control.Status) bool { return s.Inflight == 0 })
	})
	if got := c.requestedModels(); !slices.Equal(got, []string{"openai/gpt-4o"}) {
		t.Errorf("the cloud got calls for %q", got)
	}
}
