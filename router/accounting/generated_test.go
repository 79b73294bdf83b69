package accounting

import (
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
)

// TestObserveFinalEvent: the last event of /v1/responses repeats the whole answer, and
// may have text that no event before it has.
func TestObserveFinalEvent(t *testing.T) {
	r := &Reservation{request: &request.Request{Path: "/v1/responses"}}
	for _, tc := range []struct {
		event        string
		text, tokens int64
	}{
		{`{"type":"response.created","response":{"output":[]}}`, 0, 0},
		{`{"type":"response.output_text.delta","delta":"12345"}`, 5, 1},
		{`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"12345"}]}]}}`, 5, 1},
		{`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"1234567890123456"}]}]}}`, 16, 4},
	} {
		if r.Observe([]byte(tc.event)); r.text != tc.text || r.seen != tc.tokens {
			t.Errorf("after %s: %d bytes, %d tokens; want %d, %d", tc.event, r.text, r.seen, tc.text, tc.tokens)
		}
	}
}

// TestGeneratedBytes: the text of all dialects is seen, in streams and whole answers,
// once.
func TestGeneratedBytes(t *testing.T) {
	for text, path := range map[string]string{
		`{"choices":[{"delta":{"content":"12345"}}]}`:                                                           "/v1/chat/completions",
		`{"type":"content_block_start","content_block":{"type":"text","text":"12345"}}`:                         "/v1/messages",
		`{"choices":[{"delta":{"reasoning":"12345","reasoning_content":"12345"}}]}`:                             "/v1/chat/completions",
		`{"choices":[{"delta":{"tool_calls":[{"id":"abc","function":{"name":"f","arguments":"12345"}}]}}]}`:     "/v1/chat/completions",
		`{"choices":[{"message":{"content":"12"}},{"message":{"content":"345"}}]}`:                              "/v1/chat/completions",
		`{"choices":[{"text":"12345"}]}`:                                                                        "/v1/completions",
		`{"type":"content_block_delta","delta":{"type":"text_delta","text":"12345"}}`:                           "/v1/messages",
		`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"12345"}}`:             "/v1/messages",
		`{"type":"message","content":[{"type":"text","text":"12345"}]}`:                                         "/v1/messages",
		`{"type":"response.output_text.delta","delta":"12345"}`:                                                 "/v1/responses",
		`{"object":"response","output":[{"type":"message","content":[{"type":"output_text","text":"12345"}]}]}`: "/v1/responses",
		`{"object":"response","output":[{"type":"function_call","arguments":"12345"}]}`:                         "/v1/responses",
	} {
		if n := generatedBytes(path, gjson.Parse(text)); n != 5 {
			t.Errorf("%s %s: %d bytes, want 5", path, text, n)
		}
	}
	for text, path := range map[string]string{
		`{"choices":[{"delta":{"role":"assistant"},"finish_reason":"stop"}],"usage":{"completion_tokens":5}}`: "/v1/chat/completions",
		`{"type":"response.completed","response":{"output":[{"content":[{"text":"12345"}]}]}}`:                "/v1/responses",
		`{"data":[{"embedding":[1,2]}]}`: "/v1/embeddings",
	} {
		if n := generatedBytes(path, gjson.Parse(text)); n != 0 {
			t.Errorf("%s %s: %d bytes, want 0", path, text, n)
		}
	}
}

// TestPaddedAnswerIsSeen: OpenRouter writes white space before a whole answer.
func TestPaddedAnswerIsSeen(t *testing.T) {
	r := &Reservation{request: &request.Request{Path: "/v1/chat/completions"}}
	r.Observe([]byte("\n  " + `{"choices":[{"message":{"content":"12345678"}}]}`))
	if r.text != 8 || r.seen != 1 {
		t.Errorf("%d bytes, %d tokens", r.text, r.seen)
	}
}

// TestPromptTokensOfManyMarks: what looks like the beginning of many attachments is
// passed over once, and not once for each.
func TestPromptTokensOfManyMarks(t *testing.T) {
	for _, mark := range []string{`{"data":""},`, `{"data": "x"},`, `;base64,","data":"",`} {
		raw := []byte(strings.Repeat(mark, 16<<20/len(mark)))
		counted := make(chan int64, 1)
		go func() { counted <- promptTokens(raw) }()
		select {
		case tokens := <-counted:
			if want := int64(len(raw)/tokenBytes) + 1; tokens != want {
				t.Errorf("%s: %d tokens, want %d", mark, tokens, want)
			}
		case <-time.After(time.Minute): // it takes some 100 ms, and took many minutes
			t.Fatalf("%s: it still runs", mark)
		}
	}
}
