package resume

import (
	"fmt"
	"strings"
	"testing"
)

const (
	chatPath       = "/v1/chat/completions"
	completionPath = "/v1/completions"
	messagesPath   = "/v1/messages"
)

func transcriptOf(path string, events ...string) *Transcript {
	t := &Transcript{Dialect: DialectOf(path)}
	for _, event := range events {
		t.Observe([]byte(event))
	}
	return t
}

func TestTranscript(t *testing.T) {
	const (
		role    = `{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null}}]}`
		one     = `{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" 1"}}]}`
		two     = `{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{"content":" 2"}}]}`
		chatEnd = `{"id":"a","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
		start   = `{"type":"message_start","message":{"id":"b","model":"m"}}`
		block   = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
		delta   = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 1"}}`
	)
	for name, tc := range map[string]struct {
		path   string
		events []string
		text   string
		tokens int64
		id     string
		finish string
		reason string // why it is not resumable
	}{
		"a chat":              {chatPath, []string{role, one, two}, " 1 2", 2, "a", "", ""},
		"a chat that ended":   {chatPath, []string{one, chatEnd, "[DONE]"}, " 1", 1, "a", "stop", ""},
		"a tool call":         {chatPath, []string{one, `{"choices":[{"index":0,"delta":{"tool_calls":[{}]}}]}`}, " 1", 1, "a", "", "it has more than text: tool_calls"},
		"reasoning":           {chatPath, []string{`{"id":"a","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}`}, "", 0, "a", "", "it has more than text: reasoning_content"},
		"logprobs":            {chatPath, []string{`{"id":"a","choices":[{"index":0,"delta":{"content":" 1"},"logprobs":{"content":[{}]}}]}`}, " 1", 1, "a", "", "it has logprobs"},
		"a second choice":     {chatPath, []string{`{"id":"a","choices":[{"index":1,"delta":{"content":" 1"}}]}`}, " 1", 1, "a", "", "it has several choices"},
		"nothing after that":  {chatPath, []string{`{"choices":[{"index":1,"delta":{}}]}`, one}, "", 0, "", "", "it has several choices"},
		"a completion":        {completionPath, []string{`{"id":"c","choices":[{"index":0,"text":" 1"}]}`, `{"id":"c","choices":[{"index":0,"text":" \"2\""}]}`}, ` 1 "2"`, 2, "c", "", ""},
		"a message":           {messagesPath, []string{start, block, delta, delta}, " 1 1", 2, "b", "", ""},
		"a message that ends": {messagesPath, []string{start, block, delta, `{"type":"content_block_stop","index":0}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`}, " 1", 1, "b", "end_turn", ""},
		"thinking":            {messagesPath, []string{start, `{"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}`}, "", 0, "b", "", "it has more than one block of text"},
		"a second block":      {messagesPath, []string{start, block, delta, `{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"x"}}`}, " 1", 1, "b", "", "it has more than text"},
	} {
		t.Run(name, func(t *testing.T) {
			got := transcriptOf(tc.path, tc.events...)
			if got.Text.String() != tc.text || got.Tokens != tc.tokens || got.Header.ID != tc.id || got.Finish != tc.finish || got.NotResumable != tc.reason {
				t.Errorf("text %q, %d tokens, id %q, finish %q, not resumable: %q", got.Text.String(), got.Tokens, got.Header.ID, got.Finish, got.NotResumable)
			}
		})
	}
	if DialectOf("/v1/responses") != nil {
		t.Error("streams of /v1/responses have a dialect")
	}
}

func TestTranscriptIsBounded(t *testing.T) {
	got := transcriptOf(completionPath)
	got.Text.WriteString(strings.Repeat("x", maxTranscript+1))
	if got.Observe([]byte(`{"choices":[{"index":0,"text":"y"}]}`)); got.NotResumable != "it is too long" {
		t.Errorf("not resumable: %q", got.NotResumable)
	}
}

// An event that differs from the last one only in its text is read as any other.
func TestFastPath(t *testing.T) {
	event := func(created int, text, finish string) string {
		return fmt.Sprintf(`{"choices":[{"finish_reason":%s,"index":0,"delta":{"content":%s}}],"created":%d,"id":"x","model":"m"}`, finish, text, created)
	}
	s := transcriptOf(chatPath)
	var want strings.Builder
	for i, text := range []string{" 1", " 2", `a \"quoted\" one`, " 3", `back\\slash`, "}],", " 4", "", `é`, `é`, " 5", `"`, " 6"} {
		quoted := `"` + text + `"`
		if text == `"` {
			quoted = `"\""`
		}
		s.Observe([]byte(event(i/5, quoted, "null")))
		want.WriteString(strings.NewReplacer(`\"`, `"`, `\\`, `\`, `é`, "é").Replace(text))
	}
	if s.Text.String() != want.String() || s.Tokens != 12 || s.NotResumable != "" || s.Finish != "" || s.Header.ID != "x" {
		t.Errorf("%q, %d tokens, not resumable: %q, finish %q; want %q", s.Text.String(), s.Tokens, s.NotResumable, s.Finish, want.String())
	}
	s.Observe([]byte(`{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" 7","tool_calls":[{}]}}],"created":2,"id":"x","model":"m"}`))
	if s.NotResumable == "" {
		t.Error("a tool call between texts is not noticed")
	}
	s = transcriptOf(chatPath, event(0, `" 1"`, "null"), event(0, `" 2"`, `"stop"`))
	if s.Finish != "stop" || s.Text.String() != " 1 2" {
		t.Errorf("finish %q, %q", s.Finish, s.Text.String())
	}
	s = transcriptOf(chatPath, event(0, `" 1"`, "null"))
	data := []byte(event(0, `" 1"`, "null"))
	if allocs := testing.AllocsPerRun(100, func() { s.Observe(data) }); s.Tokens < 100 || allocs > 1 {
		t.Errorf("%g allocations for each event", allocs)
	}
}
