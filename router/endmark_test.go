package router

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/backend"
)

// TestFinishWithoutDone: some servers end a stream without [DONE]. It is complete if
// every choice has its finish reason and the stream ends cleanly, and reaches the
// client as it came.
func TestFinishWithoutDone(t *testing.T) {
	choice := func(index int, finish string) string {
		return fmt.Sprintf(`data: {"choices": [{"index": %d, "delta": {"content": "x"}, "text": "x", "finish_reason": %s}]}`, index, finish) + "\n\n"
	}
	ping := ": ping\n\n"
	const stop = `"stop"`
	for name, tc := range map[string]struct {
		path, body string
		last       http.HandlerFunc
		events     []string
		whole      bool
	}{
		"chat":                    {"/v1/chat/completions", ``, ends, []string{roleEvent, textEvent, finalEvent}, true},
		"completions":             {"/v1/completions", `"prompt":"x"`, ends, []string{choice(0, "null"), choice(0, stop)}, true},
		"finish comes first":      {"/v1/chat/completions", ``, ends, []string{choice(0, stop)}, true},
		"usage after it":          {"/v1/chat/completions", `"stream_options":{"include_usage":true}`, ends, []string{textEvent, finalEvent, usageEvent, ping}, true},
		"tool calls":              {"/v1/chat/completions", ``, ends, []string{textEvent, choice(0, `"tool_calls"`)}, true},
		"every choice":            {"/v1/chat/completions", `"n":2`, ends, []string{choice(0, stop), choice(1, "null"), choice(1, `"length"`)}, true},
		"every prompt":            {"/v1/completions", `"prompt":["a","b"]`, ends, []string{choice(1, stop), choice(0, stop)}, true},
		"CR":                      {"/v1/chat/completions", ``, ends, []string{strings.ReplaceAll(textEvent+finalEvent, "\n", "\r")}, true},
		"one choice of two":       {"/v1/chat/completions", `"n":2`, ends, []string{choice(0, stop), choice(1, "null"), choice(0, stop)}, false},
		"one prompt of two":       {"/v1/completions", `"prompt":[[1],[2]]`, ends, []string{choice(0, stop)}, false},
		"text after it":           {"/v1/chat/completions", ``, ends, []string{choice(0, stop), choice(0, "null")}, false},
		"no finish reason":        {"/v1/chat/completions", ``, ends, []string{textEvent, choice(0, "null"), choice(0, `""`)}, false},
		"a reset":                 {"/v1/chat/completions", ``, breaks, []string{textEvent, finalEvent}, false},
		"half an event after it":  {"/v1/chat/completions", ``, ends, []string{textEvent, finalEvent, `data: {"choices":[],"us`}, false},
		"the text speaks of it":   {"/v1/chat/completions", ``, ends, []string{textEvent, `data: {"choices":[{"delta":{"content":"\"finish_reason\":\"stop\""}}]}` + "\n\n"}, false},
		"a message":               {"/v1/messages", ``, ends, []string{"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}` + "\n\n"}, false},
		"its stop is in a choice": {"/v1/chat/completions", ``, ends, []string{textEvent, `data: {"choices":[{"delta":{"finish_reason":"stop"}}]}` + "\n\n"}, false},
	} {
		for _, model := range []string{"local/qwen", "gpt-4o"} {
			t.Run(name+", "+model, func(t *testing.T) {
				behave := sends(tc.last, tc.events...)
				b := newFixture(t, behave, behave)
				r := b.post(tc.path, strings.Replace(`{"model":"`+model+`","stream":true,`+tc.body+`}`, ",}", "}", 1))
				sent := strings.Join(tc.events, "")
				if tc.whole && (r.status != 200 || r.readErr != nil || r.body != sent) {
					t.Errorf("%d %q, %v; want %q", r.status, r.body, r.readErr, sent)
				}
				if !tc.whole && (r.readErr == nil || !strings.Contains(r.body, "connection lost in the middle of the answer")) {
					t.Errorf("%d %q: it appears complete", r.status, r.body)
				}
			})
		}
	}
}

// TestFinishWithoutDoneUnasked: where the usage was asked for in the client's name,
// its event is taken out, and what was kept back because of it is not lost.
func TestFinishWithoutDoneUnasked(t *testing.T) {
	for name, sent := range map[string][]string{"usage": {textEvent, finalEvent, usageEvent}, "no usage": {textEvent, finalEvent}} {
		b := newFixture(t, sends(ends, sent...), answers)
		b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
		r := b.chat("local/qwen", true)
		if r.readErr != nil || r.body != textEvent+finalEvent || !strings.Contains(string(b.local.lastBody()), `"include_usage":true`) {
			t.Errorf("%s: %q, %v", name, r.body, r.readErr)
		}
	}
}
