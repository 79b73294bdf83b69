package resume

import (
	"fmt"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

func TestExtendRequest(t *testing.T) {
	for name, tc := range map[string]struct{ path, body, want string }{ // want "" = there is no place for it
		"a chat":                {chatPath, `{"messages":[{"role":"user","content":"Count"}],"n":1}`, `{"messages":[{"role":"user","content":"Count"},{"role":"assistant","content":"1 \"2\""}],"n":1}`},
		"a prefilled answer":    {chatPath, `{"messages":[{"role":"user","content":"Count"},{"role":"assistant","content":"0"}]}`, ""},
		"no messages":           {chatPath, `{"messages":[]}`, ""},
		"messages of Anthropic": {messagesPath, `{"messages":[{"role":"user","content":"Count"}]}`, `{"messages":[{"role":"user","content":"Count"},{"role":"assistant","content":"1 \"2\""}]}`},
		"a completion":          {completionPath, `{"prompt":"Count: ","n":1}`, `{"prompt":"Count: 1 \"2\"","n":1}`},
		"several prompts":       {completionPath, `{"prompt":["a","b"]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			change, ok := DialectOf(tc.path).ExtendRequest(gjson.Parse(tc.body), `1 "2"`)
			got := ""
			if ok {
				got = wire.Apply(tc.body, []wire.Edit{change})
			}
			if got != tc.want {
				t.Errorf("the request is %s, want %s", got, tc.want)
			}
		})
	}
}

func TestContinuation(t *testing.T) {
	for name, tc := range map[string]struct{ path, event, text, finish, reason string }{
		"a chat's text":          {chatPath, `{"choices":[{"delta":{"role":"assistant","content":" 4"}}]}`, " 4", "", ""},
		"a chat's end":           {chatPath, `{"choices":[{"delta":{},"finish_reason":"length"}]}`, "", "length", ""},
		"a chat's tool call":     {chatPath, `{"choices":[{"delta":{"tool_calls":[{}]}}]}`, "", "", "it has more than text: tool_calls"},
		"a completion's text":    {completionPath, `{"choices":[{"text":" 4"}]}`, " 4", "", ""},
		"a completion's odds":    {completionPath, `{"choices":[{"text":" 4","logprobs":{"tokens":["4"]}}]}`, " 4", "", "it has logprobs"},
		"a message's text":       {messagesPath, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 4"}}`, " 4", "", ""},
		"a message's first text": {messagesPath, `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"4"}}`, "4", "", ""},
		"a message's end":        {messagesPath, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, "", "end_turn", ""},
		"a message's ping":       {messagesPath, `{"type":"ping"}`, "", "", ""},
		"a message's tool":       {messagesPath, `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use"}}`, "", "", "its continuation has more than one block of text"},
		"a message's arguments":  {messagesPath, `{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta"}}`, "", "", "its continuation has more than text"},
	} {
		t.Run(name, func(t *testing.T) {
			text, finish, reason := DialectOf(tc.path).Continuation(gjson.Parse(tc.event))
			if text != tc.text || finish != tc.finish || reason != tc.reason {
				t.Errorf("text %q, finish %q, not resumable: %q", text, finish, reason)
			}
		})
	}
}

// The bytes that a client receives after a stream broke off.
func TestEvents(t *testing.T) {
	usage := wire.Usage{Prompt: new(int64(10)), Completion: new(int64(5))}
	const chatHeader, completionHeader = `data: {"id":"a","object":"chat.completion.chunk","created":7,"model":"m"`, `data: {"id":"a","object":"text_completion","created":7,"model":"m"`
	for name, tc := range map[string]struct{ path, text, finish, end, endWithUsage string }{
		"a chat": {
			chatPath, chatHeader + `,"choices":[{"index":0,"delta":{"content":" 4"},"finish_reason":null}]}` + "\n\n",
			chatHeader + `,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n",
			"data: [DONE]\n\n",
			chatHeader + `,"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}` + "\n\ndata: [DONE]\n\n",
		},
		"a completion": {
			completionPath, completionHeader + `,"choices":[{"index":0,"text":" 4","logprobs":null,"finish_reason":null}]}` + "\n\n",
			completionHeader + `,"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}` + "\n\n",
			"data: [DONE]\n\n",
			completionHeader + `,"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}` + "\n\ndata: [DONE]\n\n",
		},
		"a message": {
			messagesPath, "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 4"}}` + "\n\n",
			"", messageEnd, messageEnd,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := DialectOf(tc.path)
			h := EventHeader{ID: "a", Created: 7, Model: "m"}
			transcript := &Transcript{Dialect: d, Header: h, Finish: "stop"}
			for what, c := range map[string]struct{ got, want string }{
				"text":               {string(d.TextEvent(h, " 4")), tc.text},
				"the finish reason":  {string(d.FinishEvent(h, "stop")), tc.finish},
				"the end":            {string(d.End(transcript, usage, false)), tc.end},
				"the end with usage": {string(d.End(transcript, usage, true)), tc.endWithUsage},
			} {
				if c.got != c.want {
					t.Errorf("%s is\n%swant\n%s", what, c.got, c.want)
				}
			}
		})
	}
}

const messageEnd = "event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
	"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"stop","stop_sequence":null},"usage":{"output_tokens":5}}` + "\n\n" +
	"event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"

// What the client has received already is not sent again, and unknown usage is not 0.
func TestEndIsNotRepeated(t *testing.T) {
	known := wire.Usage{Prompt: new(int64(1)), Completion: new(int64(2))}
	for name, tc := range map[string]struct {
		path, event string
		usage       wire.Usage
		want        string
	}{
		"a chat's usage was sent": {chatPath, `{"id":"a","choices":[],"usage":{"prompt_tokens":1}}`, known, "data: [DONE]\n\n"},
		"a chat's is unknown":     {chatPath, `{"id":"a","choices":[{"index":0,"delta":{"content":"x"}}]}`, wire.Usage{Completion: new(int64(2))}, "data: [DONE]\n\n"},
		"a message's was sent":    {messagesPath, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, known, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			transcript := transcriptOf(tc.path, tc.event)
			if got := string(transcript.Dialect.End(transcript, tc.usage, true)); got != tc.want {
				t.Errorf("the end is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestJoin(t *testing.T) {
	p := PartialAnswer{Text: "1, 2, 3, 4, 5, 6, 7", Tokens: 7}
	for name, tc := range map[string]struct{ path, answer, want string }{ // want "" = it cannot be joined
		"a chat": {
			chatPath, `{"choices":[{"message":{"content":", 8"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":2}}`,
			`{"choices":[{"message":{"content":"1, 2, 3, 4, 5, 6, 7, 8"},"finish_reason":"stop"}],"usage":{"prompt_tokens":13,"completion_tokens":9}}`,
		},
		"a repetition": {
			chatPath, `{"choices":[{"message":{"content":"1, 2, 3, 4, 5, 6, 7, 8"},"finish_reason":"stop"}]}`,
			`{"choices":[{"message":{"content":"1, 2, 3, 4, 5, 6, 7, 8"},"finish_reason":"stop"}]}`,
		},
		"text and a tool call": {
			chatPath, `{"choices":[{"message":{"content":null,"tool_calls":[{}]}}]}`,
			`{"choices":[{"message":{"content":"1, 2, 3, 4, 5, 6, 7","tool_calls":[{}]}}]}`,
		},
		"two choices":        {chatPath, `{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}`, ""},
		"no text":            {chatPath, `{"choices":[{"message":{}}]}`, ""},
		"a completion":       {completionPath, `{"choices":[{"text":", 8"}]}`, `{"choices":[{"text":"1, 2, 3, 4, 5, 6, 7, 8"}]}`},
		"a message":          {messagesPath, `{"content":[{"type":"text","text":", 8"}],"usage":{"input_tokens":3,"output_tokens":2}}`, `{"content":[{"type":"text","text":"1, 2, 3, 4, 5, 6, 7, 8"}],"usage":{"input_tokens":0,"output_tokens":9}}`},
		"a message's blocks": {messagesPath, `{"content":[{"type":"text","text":"a"},{"type":"tool_use"}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := DialectOf(tc.path).Join(tc.answer, p); got != tc.want || ok != (tc.want != "") {
				t.Errorf("the answer is %s, %t, want %s", got, ok, tc.want)
			}
		})
	}
}

func TestNotResumable(t *testing.T) {
	for body, want := range map[string]string{
		`{"messages":[],"max_tokens":5,"n":1,"stream":true}`:  "",
		`{"messages":[],"messages":[]}`:                       "it has a field twice",
		`{"logprobs":true}`:                                   "it asks for logprobs",
		`{"logprobs":false,"top_logprobs":null,"grammar":""}`: "",
		`{"grammar":"root ::= [a]"}`:                          "it asks for a grammar",
		`{"n":2}`:                                             "it asks for several choices",
		`{"best_of":2}`:                                       "it asks for the best of several",
		`{"suffix":"}"}`:                                      "it asks for a suffix",
		`{"max_tokens":1e2}`:                                  "its limit is not a whole number",
		`{"max_completion_tokens":3.5}`:                       "its limit is not a whole number",
		`{"n_predict":-1}`:                                    "",
		`{"response_format":{"type":"json_schema","json_schema":{}}}`: "it asks for json_schema",
		`{"response_format":{"type":"text"}}`:                         "",
	} {
		if got := NotResumable(gjson.Parse(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestReduceMaxTokens(t *testing.T) {
	for body, want := range map[string]string{
		`{"max_tokens":100}`:                   `{"max_tokens":93} 93`,
		`{"max_tokens":5}`:                     `{"max_tokens":0} 0`,
		`{"max_tokens":50,"n_predict":20}`:     `{"max_tokens":43,"n_predict":13} 13`,
		`{"max_completion_tokens":7}`:          `{"max_completion_tokens":0} 0`,
		`{"max_tokens":null,"n_predict":-1}`:   `{"max_tokens":null,"n_predict":-1} -1`,
		`{"max_tokens":9223372036854775807}`:   `{"max_tokens":9223372036854775800} 9223372036854775800`,
		`{"messages":[{"max_tokens":"none"}]}`: `{"messages":[{"max_tokens":"none"}]} -1`,
	} {
		changes, left := ReduceMaxTokens(gjson.Parse(body), 7)
		if got := fmt.Sprint(wire.Apply(body, changes), " ", left); got != want {
			t.Errorf("%s is changed to %s, want %s", body, got, want)
		}
	}
}
