package router

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// TestErrorEventAborts: a backend's own error event reaches the client as it came,
// and then the connection is aborted: a client that does not know the event must
// not read a clean end. An end mark after it makes nothing complete.
func TestErrorEventAborts(t *testing.T) {
	const (
		late     = `data: {"error":{"message":"late"}}` + "\n\n"
		inChoice = `data: {"error":{"code":502},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}` + "\n\n"
		delta    = "event: content_block_delta\n" + `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}` + "\n\n"
		overload = "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}` + "\n\n"
		stop     = "event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
		part     = `data: {"type":"response.output_text.delta","delta":"x"}` + "\n\n"
		failed   = `data: {"type":"response.failed","response":{"error":{"message":"x"}}}` + "\n\n"
	)
	ended := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, doneEvent+stop) }
	for name, tc := range map[string]struct {
		path   string
		last   http.HandlerFunc // what the backend does after its events
		events []string
	}{
		"a clean end":      {"/v1/chat/completions", ends, []string{roleEvent, textEvent, late}},
		"a reset":          {"/v1/chat/completions", breaks, []string{roleEvent, textEvent, late}},
		"an end mark":      {"/v1/chat/completions", ended, []string{roleEvent, textEvent, late}},
		"OpenRouter's":     {"/v1/chat/completions", ended, []string{roleEvent, textEvent, inChoice}},
		"with an end mark": {"/v1/messages", ended, []string{delta, overload}},
		"a message":        {"/v1/messages", ends, []string{delta, overload}},
		"a response":       {"/v1/responses", ends, []string{part, failed}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, sends(tc.last, tc.events...), answers, withCompleteResponses)
			r := b.post(tc.path, `{"model":"local/qwen","stream":true}`)
			if want := strings.Join(tc.events, ""); r.status != 200 || r.body != want {
				t.Errorf("%d %q, want %q", r.status, r.body, want)
			}
			if r.readErr == nil {
				t.Error("the stream ended cleanly")
			}
			if !strings.Contains(b.log.String(), `"cut":"the answer was truncated`) {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// TestStreamsInOpenAISDK: what the official SDK makes of a stream that ends with a
// backend's error event, and of one that is complete without [DONE].
func TestStreamsInOpenAISDK(t *testing.T) {
	const late = `data: {"error":{"message":"late"}}` + "\n\n"
	for name, tc := range map[string]struct {
		events []string
		failed string // "" = the stream is complete
	}{
		"an error event":             {[]string{textEvent, late}, "late"},
		"an error event and [DONE]":  {[]string{textEvent, late, doneEvent}, "late"},
		"a finish reason, no [DONE]": {[]string{textEvent, finalEvent}, ""},
		"no finish reason":           {[]string{textEvent}, "openrouter: connection lost in the middle of the answer"},
	} {
		b := newFixture(t, answers, sends(ends, tc.events...))
		client := openai.NewClient(option.WithBaseURL(b.url+"/v1"), option.WithAPIKey("k"), option.WithMaxRetries(0))
		stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
			Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("count")},
		})
		text := ""
		for stream.Next() {
			text += stream.Current().Choices[0].Delta.Content
		}
		switch err := stream.Err(); {
		case text != " 1":
			t.Errorf("%s: the text is %q", name, text)
		case tc.failed == "" && err != nil, tc.failed != "" && (err == nil || !strings.Contains(err.Error(), tc.failed)):
			t.Errorf("%s: %v", name, err)
		}
	}
}
