package router

import (
	"strings"
	"testing"
)

func TestStreamMeaning(t *testing.T) {
	const silent, answered, ended, both, failed = "silent", "answered", "ended", "answered and ended", "failed"
	say := func(m meaning) string {
		switch {
		case m.failed != "":
			return failed
		case m.answered && m.ended:
			return both
		case m.answered:
			return answered
		case m.ended:
			return ended
		}
		return silent
	}
	for name, tc := range map[string]struct {
		d    dialect
		sse  string
		want string
	}{
		"ping":                  {chat, ": OPENROUTER PROCESSING\n\n", silent},
		"role only":             {chat, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}`, silent},
		"empty delta":           {chat, `data: {"choices":[{"delta":{"content":""}}]}`, silent},
		"no choices":            {chat, `data: {"choices":[],"prompt_progress":{"total":5}}`, silent},
		"content":               {chat, `data: {"choices":[{"delta":{"content":" 1"}}]}`, answered},
		"white space":           {chat, `data: {"choices":[{"delta":{"content":" "}}]}`, answered},
		"reasoning":             {chat, `data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}`, answered},
		"OpenRouter reasoning":  {chat, `data: {"choices":[{"delta":{"reasoning":"hm","content":""}}]}`, answered},
		"tool call":             {chat, `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]}}]}`, answered},
		"no tool call":          {chat, `data: {"choices":[{"delta":{"tool_calls":[]}}]}`, silent},
		"refusal":               {chat, `data: {"choices":[{"delta":{"refusal":"no"}}]}`, answered},
		"second choice":         {chat, `data: {"choices":[{"delta":{}},{"delta":{"content":"x"}}]}`, answered},
		"finish":                {chat, `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}`, answered},
		"done":                  {chat, "data: [DONE]", ended},
		"error":                 {chat, `data: {"error":{"message":"no","code":502}}`, failed},
		"error null":            {chat, `data: {"error":null,"choices":[{"delta":{"content":"x"}}]}`, answered},
		"error beside choices":  {chat, `data: {"error":{"code":"server_error"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`, failed},
		"error in choice":       {chat, `data: {"choices":[{"error":{"message":"x"},"delta":{"content":"a"}}]}`, failed},
		"completion empty":      {completions, `data: {"choices":[{"text":"","finish_reason":null}]}`, silent},
		"completion text":       {completions, `data: {"choices":[{"text":"a","finish_reason":null}]}`, answered},
		"completion finish":     {completions, `data: {"choices":[{"text":"","finish_reason":"length"}]}`, answered},
		"response created":      {responses{}, "event: response.created\n" + `data: {"type":"response.created","response":{"error":null}}`, silent},
		"response item":         {responses{}, `data: {"type":"response.output_item.added","item":{"type":"message","content":[]}}`, silent},
		"response call":         {responses{}, `data: {"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}`, answered},
		"response delta":        {responses{}, `data: {"type":"response.output_text.delta","delta":"x"}`, answered},
		"response empty delta":  {responses{}, `data: {"type":"response.output_text.delta","delta":""}`, silent},
		"response completed":    {responses{}, `data: {"type":"response.completed","response":{"usage":{"input_tokens":3}}}`, both},
		"response failed":       {responses{}, `data: {"type":"response.failed","response":{"error":{"message":"x"}}}`, failed},
		"response error":        {responses{}, `data: {"type":"error","message":"x"}`, failed},
		"message start":         {messages{}, "event: message_start\n" + `data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}`, silent},
		"message ping":          {messages{}, "event: ping\ndata: {\"type\":\"ping\"}", silent},
		"message text shell":    {messages{}, `data: {"type":"content_block_start","content_block":{"type":"text","text":""}}`, silent},
		"message tool":          {messages{}, `data: {"type":"content_block_start","content_block":{"type":"tool_use","name":"f"}}`, answered},
		"message delta":         {messages{}, `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}`, answered},
		"message empty delta":   {messages{}, `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":""}}`, silent},
		"message stop reason":   {messages{}, `data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, answered},
		"message stop":          {messages{}, `data: {"type":"message_stop"}`, ended},
		"message error":         {messages{}, "event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}`, failed},
		"infill":                {plain{}, `data: {"content":"x","stop":false}`, answered},
		"infill end":            {plain{}, `data: {"content":"","stop":true}`, both},
		"not JSON is no answer": {chat, "data: hello", silent},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newEventReader(strings.NewReader(tc.sse)).next()
			if err != nil {
				t.Fatal(err)
			}
			if got := say(tc.d.read(e, false)); got != tc.want {
				t.Errorf("%s is %s, want %s", tc.sse, got, tc.want)
			}
		})
	}
}

func TestUsageIsSeenAfterCommit(t *testing.T) {
	for name, tc := range map[string]struct {
		d   dialect
		sse string
	}{
		"chat":      {chat, `data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}`},
		"timings":   {chat, `data: {"choices":[],"timings":{"cache_n":1,"prompt_n":2,"predicted_n":4}}`},
		"responses": {responses{}, `data: {"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}`},
		"messages":  {messages{}, `data: {"type":"message_delta","delta":{},"usage":{"input_tokens":3,"output_tokens":4}}`},
	} {
		e, _ := newEventReader(strings.NewReader(tc.sse)).next()
		u := tc.d.read(e, true).usage
		if u.prompt == nil || *u.prompt != 3 || u.completion == nil || *u.completion != 4 {
			t.Errorf("%s: usage %+v", name, u)
		}
	}
}

func TestWholeAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		d      dialect
		body   string
		failed string // part of it; "" = an answer
	}{
		"chat":                {chat, `{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1}}`, ""},
		"error as 200":        {chat, `{"error":{"message":"Provider returned error","code":502}}`, "Provider returned error"},
		"error as text":       {chat, `{"error":"boom"}`, "boom"},
		"empty choices":       {chat, `{"choices":[]}`, "without choices"},
		"no choices":          {chat, `{}`, "without choices"},
		"error in choice":     {chat, `{"choices":[{"error":{"message":"late"}}]}`, "late"},
		"finish reason error": {chat, `{"choices":[{"finish_reason":"error"}]}`, "finish_reason error"},
		"HTML":                {chat, `<html>hello</html>`, notJSON},
		"cut":                 {chat, `{"choices":[{"message":`, notJSON},
		"nothing":             {chat, ``, notJSON},
		"null error":          {responses{}, `{"error":null,"status":"completed","output":[]}`, ""},
		"failed response":     {responses{}, `{"error":null,"status":"failed","output":[]}`, "status failed"},
		"message":             {messages{}, `{"type":"message","content":[]}`, ""},
		"message error":       {messages{}, `{"type":"error","error":{"message":"x"}}`, "x"},
		"embeddings":          {plain{}, `{"data":[],"usage":{"prompt_tokens":1}}`, ""},
		"an array":            {plain{}, `[{"index":0}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := tc.d.judge([]byte(tc.body))
			if tc.failed == "" && m.failed != "" || tc.failed != "" && !strings.Contains(m.failed, tc.failed) {
				t.Errorf("failed: %q, want %q", m.failed, tc.failed)
			}
		})
	}
}
