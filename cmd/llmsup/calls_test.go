package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// awaitCall waits until a call in flight is in a phase, and returns it.
func (in *instance) awaitCall(phase string) (found control.Call) {
	in.t.Helper()
	if !eventually(testTimeout, func() bool {
		page := answerOf(in, func(ctx context.Context) (control.CallsPage, error) {
			return in.client.Calls(ctx, control.CallsQuery{Limit: 1})
		})
		i := slices.IndexFunc(page.InFlight, func(c control.Call) bool { return c.Phase == phase })
		if i >= 0 {
			found = page.InFlight[i]
		}
		return i >= 0
	}) {
		in.t.Fatalf("no call is %s", phase)
	}
	return found
}

// TestCancelCalls: an operator cancels a stream at a real llama-server and a call that waits for
// its slot, both of an SDK that repeats failed calls. The SDK repeats neither, and the slot is
// free for the next call.
func TestCancelCalls(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--config", newTestConfig(t, "servers:\n  slow: {model: "+demotest.Slow(t)+", ctx_size: 32768, args: [-np, \"1\"]}\n").path)
	in.awaitReady()
	client := openai.NewClient(option.WithBaseURL(in.url+"/v1"), option.WithAPIKey("k"))
	ask := func(tokens int64) openai.ChatCompletionNewParams {
		return openai.ChatCompletionNewParams{Model: "local", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Count.")}, MaxTokens: openai.Int(tokens)}
	}
	type outcome struct {
		text string
		err  error
	}
	streamed, waited := make(chan outcome, 1), make(chan outcome, 1)
	go func() {
		stream := client.Chat.Completions.NewStreaming(t.Context(), ask(1_000_000), option.WithJSONSet("ignore_eos", true))
		var text strings.Builder
		for stream.Next() {
			for _, choice := range stream.Current().Choices {
				text.WriteString(choice.Delta.Content)
			}
		}
		streamed <- outcome{text.String(), stream.Err()}
	}()
	stream := in.awaitCall("answering")
	go func() {
		_, err := client.Chat.Completions.New(t.Context(), ask(5), option.WithHeader("X-Request-Id", "the-one-that-waits"))
		waited <- outcome{"", err}
	}()
	if c := in.awaitCall("waiting_for_slot"); c.Place != 1 || c.Request != "the-one-that-waits" || c.Backend != "slow" {
		t.Errorf("%+v", c)
	}
	if calls, err := in.client.CancelCall(t.Context(), "the-one-that-waits"); err != nil || len(calls) != 1 {
		t.Fatalf("%+v, %v", calls, err)
	}
	if e := (*openai.Error)(nil); !errors.As((<-waited).err, &e) || e.StatusCode != 499 || e.Code != "cancelled" {
		t.Errorf("the SDK got %v", e)
	}
	if _, err := in.client.CancelCall(t.Context(), stream.ID); err != nil {
		t.Fatal(err)
	}
	got := <-streamed
	numbers := strings.Fields(got.text)
	for i, n := range numbers {
		if n != fmt.Sprint(i+1) {
			t.Fatalf("the stream's text is %q", got.text)
		}
	}
	if len(numbers) == 0 || got.err == nil || !strings.Contains(got.err.Error(), "an operator cancelled this call") {
		t.Errorf("%d tokens, then %v", len(numbers), got.err)
	}
	if answer, err := client.Chat.Completions.New(t.Context(), ask(5)); err != nil || answer.Choices[0].Message.Content != " 1 2 3 4 5" {
		t.Errorf("the next call: %+v, %v", answer, err)
	}
	page, err := in.client.Calls(t.Context(), control.CallsQuery{})
	if err != nil || len(page.Calls) != 3 || page.Calls[0].Status != 200 {
		t.Errorf("%+v, %v", page, err)
	}
	for id, want := range map[string]string{stream.ID: "slow", page.Calls[1].ID: "slow"} {
		if c, err := in.client.Call(t.Context(), id); err != nil || c.Status != 499 || !c.Partial || len(c.Attempts) != 1 || c.Attempts[0].Backend != want ||
			c.Attempts[0].Detail != "cancelled by an operator" {
			t.Errorf("%+v, %v", c, err)
		}
	}
}
