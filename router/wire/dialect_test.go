package wire

import (
	"strings"
	"testing"
)

func TestInspectEvent(t *testing.T) {
	const silent, answered, ended, both, failed = "silent", "answered", "ended", "answered and ended", "failed"
	say := func(m EventInfo) string {
		switch {
		case m.Failed != "":
			return failed
		case m.Answered && m.Ended:
			return both
		case m.Answered:
			return answered
		case m.Ended:
			return ended
		}
		return silent
	}
	for name, tc := range map[string]struct {
		d    Dialect
		sse  string
		want string
	}{
		"ping":                  {Chat, ": OPENROUTER PROCESSING\n\n", silent},
		"role only":             {Chat, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}`, silent},
		"empty delta":           {Chat, `data: {"choices":[{"delta":{"content":""}}]}`, silent},
		"no choices":            {Chat, `data: {"choices":[],"prompt_progress":{"total":5}}`, silent},
		"content":               {Chat, `data: {"choices":[{"delta":{"content":" 1"}}]}`, answered},
		"white space":           {Chat, `data: {"choices":[{"delta":{"content":" "}}]}`, answered},
		"reasoning":             {Chat, `data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}`, answered},
		"OpenRouter reasoning":  {Chat, `data: {"choices":[{"delta":{"reasoning":"hm","content":""}}]}`, answered},
		"tool call":             {Chat, `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}`, answered},
		"no tool call":          {Chat, `data: {"choices":[{"delta":{"tool_calls":[]}}]}`, silent},
		"refusal":               {Chat, `data: {"choices":[{"delta":{"refusal":"no"}}]}`, answered},
		"second choice":         {Chat, `data: {"choices":[{"delta":{}},{"delta":{"content":"x"}}]}`, answered},
		"finish":                {Chat, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`, answered},
		"done":                  {Chat, "data: [DONE]", ended},
		"error":                 {Chat, `data: {"error":{"message":"no","code":502}}`, failed},
		"error null":            {Chat, `data: {"error":null,"choices":[{"delta":{"content":"x"}}]}`, answered},
		"error beside choices":  {Chat, `data: {"error":{"code":"server_error"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`, failed},
		"error in choice":       {Chat, `data: {"choices":[{"error":{"message":"x"},"delta":{"content":"a"}}]}`, failed},
		"completion empty":      {Completions, `data: {"choices":[{"text":"","finish_reason":null}]}`, silent},
		"completion text":       {Completions, `data: {"choices":[{"text":"a","finish_reason":null}]}`, answered},
		"completion finish":     {Completions, `data: {"choices":[{"text":"","finish_reason":"length"}]}`, answered},
		"response created":      {Responses{}, "event: response.created\n" + `data: {"type":"response.created","response":{"error":null}}`, silent},
		"response item":         {Responses{}, `data: {"type":"response.output_item.added","item":{"type":"message","content":[]}}`, silent},
		"response call":         {Responses{}, `data: {"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}`, answered},
		"response delta":        {Responses{}, `data: {"type":"response.output_text.delta","delta":"x"}`, answered},
		"response empty delta":  {Responses{}, `data: {"type":"response.output_text.delta","delta":""}`, silent},
		"response completed":    {Responses{}, `data: {"type":"response.completed","response":{"usage":{"input_tokens":3}}}`, both},
		"response failed":       {Responses{}, `data: {"type":"response.failed","response":{"error":{"message":"x"}}}`, failed},
		"response error":        {Responses{}, `data: {"type":"error","message":"x"}`, failed},
		"message start":         {Messages{}, "event: message_start\n" + `data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}`, silent},
		"message ping":          {Messages{}, "event: ping\ndata: {\"type\":\"ping\"}", silent},
		"message text shell":    {Messages{}, `data: {"type":"content_block_start","content_block":{"type":"text","text":""}}`, silent},
		"message tool":          {Messages{}, `data: {"type":"content_block_start","content_block":{"type":"tool_use","name":"f"}}`, answered},
		"message delta":         {Messages{}, `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`, answered},
		"message empty delta":   {Messages{}, `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":""}}`, silent},
		"message stop reason":   {Messages{}, `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, answered},
		"message stop":          {Messages{}, `data: {"type":"message_stop"}`, ended},
		"message error":         {Messages{}, "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}`, failed},
		"infill":                {Generic{}, `data: {"content":"x","stop":false}`, answered},
		"infill end":            {Generic{}, `data: {"content":"","stop":true}`, answered},
		"not JSON is no answer": {Chat, "data: hello", silent},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := NewEventReader(strings.NewReader(tc.sse)).Next()
			if err != nil {
				t.Fatal(err)
			}
			if got := say(tc.d.InspectEvent(e, false)); got != tc.want {
				t.Errorf("%s is %s, want %s", tc.sse, got, tc.want)
			}
		})
	}
}

func TestUsageIsSeenAfterCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		d   Dialect
		sse string
	}{
		"chat":      {Chat, `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}`},
		"timings":   {Chat, `data: {"choices":[],"timings":{"cache_n":1,"prompt_n":2,"predicted_n":4}}`},
		"responses": {Responses{}, `data: {"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}`},
		"messages":  {Messages{}, `data: {"type":"message_delta","delta":{},"usage":{"input_tokens":3,"output_tokens":4}}`},
	} {
		e, _ := NewEventReader(strings.NewReader(tc.sse)).Next()
		u := tc.d.InspectEvent(e, true).Usage
		if u.Prompt == nil || *u.Prompt != 3 || u.Completion == nil || *u.Completion != 4 {
			t.Errorf("%s: usage %+v", name, u)
		}
	}
}

// TestErrorIsSeenAfterCommit: an error in the middle of a stream, as each server writes it.
func TestErrorIsSeenAfterCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		d   Dialect
		sse string
	}{
		"chat":                      {Chat, `data: {"error":{"code":500,"message":"x"}}`},
		"responses":                 {Responses{}, "event: error\n" + `data: {"type":"error","message":"x"}`},
		"responses of llama-server": {Responses{}, `data: {"error":{"code":500,"message":"x"}}`},
		"messages":                  {Messages{}, "event: error\n" + `data: {"type":"error","error":{"message":"x"}}`},
	} {
		e, _ := NewEventReader(strings.NewReader(tc.sse)).Next()
		if got := tc.d.InspectEvent(e, true).Failed; got != "x" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWholeAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		d      Dialect
		body   string
		failed string // part of it; "" = an answer
	}{
		"chat":                {Chat, `{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1}}`, ""},
		"error as 200":        {Chat, `{"error":{"message":"Provider returned error","code":502}}`, "Provider returned error"},
		"error as text":       {Chat, `{"error":"boom"}`, "boom"},
		"empty choices":       {Chat, `{"choices":[]}`, "without choices"},
		"no choices":          {Chat, `{}`, "without choices"},
		"error in choice":     {Chat, `{"choices":[{"error":{"message":"late"}}]}`, "late"},
		"finish reason error": {Chat, `{"choices":[{"finish_reason":"error"}]}`, "finish_reason error"},
		"HTML":                {Chat, `<html>hello</html>`, NotJSON},
		"cut":                 {Chat, `{"choices":[{"message":`, NotJSON},
		"nothing":             {Chat, ``, NotJSON},
		"null error":          {Responses{}, `{"error":null,"status":"completed","output":[]}`, ""},
		"failed response":     {Responses{}, `{"error":null,"status":"failed","output":[]}`, "status failed"},
		"message":             {Messages{}, `{"type":"message","content":[]}`, ""},
		"message error":       {Messages{}, `{"type":"error","error":{"message":"x"}}`, "x"},
		"embeddings":          {Generic{}, `{"data":[],"usage":{"prompt_tokens":1}}`, ""},
		"an array":            {Generic{}, `[{"index":0}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := tc.d.InspectBody([]byte(tc.body))
			if tc.failed == "" && m.Failed != "" || tc.failed != "" && !strings.Contains(m.Failed, tc.failed) {
				t.Errorf("failed: %q, want %q", m.Failed, tc.failed)
			}
		})
	}
}
