package router

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	messagesTool  = `"tools":[{"name":"weather","description":"d","input_schema":{"type":"object","properties":{"city":{"enum":["Rome","Zürich"]}},"required":["city"]}}]`
	responsesTool = `"tools":[{"type":"function","name":"weather","description":"d","parameters":{"type":"object","properties":{"city":{"enum":["Rome","Zürich"]}},"required":["city"]}}]`
)

// TestLocalMessagesAndResponses: the aggregated streams of a real llama-server are the
// answers that it gives without a stream.
func TestLocalMessagesAndResponses(t *testing.T) {
	counts := startEngine(t)
	calls := startEngine(t, "--logit-bias", "2+100", "--logit-bias", "129+95", "--logit-bias", "13-100") // the end, or a call of a tool where one is required; no line ends
	thinks := startEngine(t, "--grammar", `root ::= "<think>a b </think> é c"`)
	fails := startEngine(t, "--ignore-eos", "--grammar", `root ::= "abc"`)
	smiles := startEngine(t, "--grammar", `root ::= "\U0001F600 hello"`) // its first token is a part of a character
	twelve := startEngine(t, "--logit-bias", "273+100")                  // its tokens are " 12"
	const hi = `"messages":[{"role":"user","content":"hi"}]`
	for name, tc := range map[string]struct {
		e            engine
		path, fields string
		has          string // a path that exists in the answer; "" = the stream is refused
	}{
		"text":                    {counts, "/v1/messages", hi + `,"max_tokens":7`, "content.0.text"},
		"the model's end":         {counts, "/v1/messages", `"max_tokens":70,"system":"count","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"2998"},{"role":"user","content":[{"type":"text","text":"on"}]}]`, "content.0.text"},
		"a stop string":           {counts, "/v1/messages", hi + `,"max_tokens":9,"stop_sequences":[" 4"]`, "content.0.text"},
		"stopped at once":         {counts, "/v1/messages", hi + `,"max_tokens":9,"stop_sequences":[" 1"]`, ""},
		"half a stop string":      {counts, "/v1/messages", hi + `,"max_tokens":6,"stop_sequences":[" 5 6 7 8"]`, ""},
		"no half a stop string":   {counts, "/v1/messages", hi + `,"max_tokens":4,"stop_sequences":[" 5 6 7 8"]`, "content.0.text"},
		"one token":               {counts, "/v1/messages", hi + `,"max_tokens":1`, "content.0.text"},
		"sampling, and more":      {counts, "/v1/messages", hi + `,"max_tokens":5,"temperature":0,"top_p":0.9,"top_k":5,"metadata":{"user_id":"x"},"service_tier":"auto","stream":false`, "content.0.text"},
		"tools, not used":         {counts, "/v1/messages", hi + `,"max_tokens":9,` + messagesTool + `,"tool_choice":{"type":"auto"}`, "content.0.text"},
		"no thinking":             {counts, "/v1/messages", hi + `,"max_tokens":9,"thinking":{"type":"disabled"},"chat_template_kwargs":{"a":1}`, "content.0.text"},
		"a tool's result":         {counts, "/v1/messages", `"max_tokens":9,` + messagesTool + `,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"u","name":"weather","input":{"city":"Rome"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"u","content":"12"}]}]`, "content.0.text"},
		"a call of a tool":        {calls, "/v1/messages", hi + `,"max_tokens":300,"temperature":0,"tool_choice":{"type":"any"},` + messagesTool, "content.0.input.city"},
		"a call, half":            {calls, "/v1/messages", hi + `,"max_tokens":20,"temperature":0,"tool_choice":{"type":"any"},` + messagesTool, ""},
		"thinking":                {thinks, "/v1/messages", hi + `,"max_tokens":90,"thinking":{"type":"enabled","budget_tokens":1024}`, "content.0.thinking"},
		"thinking, cut":           {thinks, "/v1/messages", hi + `,"max_tokens":10`, "content.0.thinking"},
		"an error on its way":     {fails, "/v1/messages", hi + `,"max_tokens":9`, "error"},
		"half a character":        {smiles, "/v1/messages", hi + `,"max_tokens":20`, ""},
		"a stop in one token":     {twelve, "/v1/messages", hi + `,"temperature":0,"max_tokens":9,"stop_sequences":["12"]`, ""},
		"c: a stop in one token":  {twelve, chatPath, hi + `,"temperature":0,"max_tokens":9,"stop":["12"]`, ""},
		"rejected":                {counts, "/v1/messages", hi + `,"max_tokens":"x"`, "error"},
		"too long":                {counts, "/v1/messages", `"max_tokens":5,"messages":[{"role":"user","content":"` + strings.Repeat("long ", 5000) + `"}]`, "error"},
		"r: text":                 {counts, "/v1/responses", `"input":"hi","max_output_tokens":7`, "output.0.content.0.text"},
		"r: messages":             {counts, "/v1/responses", `"instructions":"count","max_output_tokens":70,"input":[{"role":"user","content":"a"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"b"}]},{"role":"user","content":[{"type":"input_text","text":"hi"}]}]`, "output.0.content.0.text"},
		"r: sampling, and more":   {counts, "/v1/responses", `"input":"hi","max_output_tokens":7,"temperature":0,"top_p":0.9,"top_k":4,"seed":1,"store":true,"metadata":{"a":"b"},"user":"u","truncation":"auto","text":{"format":{"type":"text"}},"reasoning":{"effort":"low"},"stream":null`, "output.0.content.0.text"},
		"r: a grammar":            {counts, "/v1/responses", `"input":"hi","grammar":"root ::= \"h\u00e9\ud83d\ude00 \\\\ \\\" x\\n\""`, "output.0.content.0.text"},
		"r: reasoning":            {counts, "/v1/responses", `"input":"hi","grammar":"root ::= \"<think>a b </think> c\\nd\""`, "output.1.content.0.text"},
		"r: only reasoning":       {counts, "/v1/responses", `"input":"hi","grammar":"root ::= \"<think>only\""`, "output.0.content.0.text"},
		"r: n_predict":            {counts, "/v1/responses", `"input":"hi","n_predict":3`, "output.0.content.0.text"},
		"r: a call of a tool":     {calls, "/v1/responses", `"input":"hi","max_output_tokens":300,"temperature":0,` + responsesTool + `,"tool_choice":"required","parallel_tool_calls":false`, "output.0.arguments"},
		"r: a call, half":         {calls, "/v1/responses", `"input":"hi","max_output_tokens":20,"temperature":0,"tool_choice":"required",` + responsesTool, ""},
		"r: a function's result":  {counts, "/v1/responses", `"max_output_tokens":9,` + responsesTool + `,"input":[{"role":"user","content":"a"},{"type":"function_call","call_id":"c","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"12"}]`, "output.0.content.0.text"},
		"r: nothing":              {counts, "/v1/responses", `"input":"hi","grammar":"root ::= \"\""`, ""},
		"r: half a character":     {counts, "/v1/responses", `"input":"hi","max_output_tokens":1,"grammar":"root ::= \"\ud83d\ude00\""`, ""},
		"r: rejected":             {counts, "/v1/responses", `"input":"hi","grammar":"root ::= nothing"`, "error"},
		"r: an error on its way":  {counts, "/v1/responses", `"input":"hi","ignore_eos":true,"max_output_tokens":9,"temperature":0,"grammar":"root ::= \"abc\""`, "error"},
		"r: previous_response_id": {counts, "/v1/responses", `"input":5`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := `{"model":"demo",` + tc.fields + `}`
			if tc.has == "-" {
				if _, ok := aggregate.AsStream(parseRequest(t, raw), tc.path); ok {
					t.Error("it streams")
				}
				return
			}
			e := tc.e
			e.t = t
			e.post(tc.path, strings.NewReader(raw)) // so that the prompt is in the cache for both
			answer, err := e.compareForms(tc.path, raw)
			if tc.has == "" {
				if err == nil {
					t.Errorf("%s is not refused: %s", raw, answer)
				}
				return
			}
			if err != nil || !gjson.Get(answer, tc.has).Exists() {
				t.Errorf("%s: %v, no %s in %s", raw, err, tc.has, answer)
			}
		})
	}
	// Answers that end after any of their tokens.
	for tokens := 1; tokens <= 60; tokens += 3 {
		for _, tc := range []struct {
			e            engine
			path, fields string
		}{
			{calls, "/v1/messages", hi + `,"tool_choice":{"type":"any"},` + messagesTool + fmt.Sprintf(`,"temperature":0,"max_tokens":%d`, tokens)},
			{thinks, "/v1/messages", hi + fmt.Sprintf(`,"max_tokens":%d`, tokens)},
			{calls, "/v1/responses", `"input":"hi","tool_choice":"required",` + responsesTool + fmt.Sprintf(`,"temperature":0,"max_output_tokens":%d`, tokens)},
			{counts, "/v1/responses", fmt.Sprintf(`"input":"hi","grammar":"root ::= \"<think>a b </think> c d\"","max_output_tokens":%d`, tokens)},
		} {
			raw := `{"model":"demo",` + tc.fields + `}`
			e := tc.e
			e.t = t
			e.post(tc.path, strings.NewReader(raw))
			_, _ = e.compareForms(tc.path, raw) // refused, or the same
		}
	}
}

// Streams as llama-server sends them, in parts.
var (
	localMessage = []string{
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"qwen\",\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"cache_read_input_tokens\":3,\"input_tokens\":1,\"output_tokens\":0}}}\n\n" +
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"1\"}}\n\n",
		"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n",
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	}
	localAnswer = []string{
		"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"object\":\"response\",\"status\":\"in_progress\"}}\n\n",
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"delta\":\"1\"}\n\n",
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"object\":\"response\",\"created_at\":5,\"status\":\"completed\",\"model\":\"qwen\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"1\"}]}],\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}}\n\n",
	}
)

// localCalls are calls without a stream, the stream that llama-server sends for them,
// and where the answer has its text.
var localCalls = map[string]struct {
	call  string
	parts []string
	text  string
}{
	"/v1/messages":  {`{"model":"local/qwen","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, localMessage, "content.0.text"},
	"/v1/responses": {`{"model":"local/qwen","input":"hi"}`, localAnswer, "output.0.content.0.text"},
}

// TestLocalAnswerMayExceedTimeout: a message or a response without a stream that takes longer than
// the route's timeout, and has begun within it, is not discarded and paid for again.
func TestLocalAnswerMayExceedTimeout(t *testing.T) {
	for path, tc := range localCalls {
		var b *fixture
		var r reply
		retryIfTooSlow(true, func(timeout time.Duration) bool {
			b = newStreamingFixture(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i, part := range tc.parts {
					_, _ = io.WriteString(w, part)
					_ = http.NewResponseController(w).Flush()
					if i > 0 {
						outlast(timeout)
					}
				}
			}, answers, withTimeout(timeout))
			r = b.post(path, tc.call)
			return r.backend() == "qwen"
		})
		if r.status != 200 || r.backend() != "qwen" || len(b.cloud.requests()) != 0 || gjson.Get(r.body, tc.text).Str != "1" || r.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: %d from %q (%s): %v %s", path, r.status, r.backend(), r.reason(), r.header, r.body)
		}
		if !gjson.GetBytes(b.local.lastBody(), "stream").Bool() || !strings.Contains(b.log.String(), `"prompt_tokens":4,"completion_tokens":2`) {
			t.Errorf("%s: sent %s, log %s", path, b.local.lastBody(), b.log)
		}
	}
}

// TestLocalStreamFails: a stream that breaks moves the call, one that is not understood is
// asked for again without a stream, and an error of the engine is passed on.
func TestLocalStreamFails(t *testing.T) {
	const own = `{"error":{"code":500,"message":"the engine failed","type":"server_error"}}`
	for path, tc := range localCalls {
		half := strings.Join(tc.parts[:2], "")
		b := newStreamingFixture(t, sends(breaks, half), answers)
		if r := b.post(path, tc.call); r.reason() != "lost" || len(b.cloud.requests()) != 1 || len(b.local.requests()) != 1 {
			t.Errorf("%s, broken: %d, %q: %s", path, r.status, r.reason(), r.body)
		}
		b = newStreamingFixture(t, sends(ends, half, "data: "+own+"\n\n"), answers)
		want := own
		if path == "/v1/messages" { // the router adds what Anthropic's errors have besides
			want = `{"type":"error",` + own[1:]
		}
		if r := b.post(path, strings.Replace(tc.call, "local/qwen", "local/alone", 1)); r.status != 500 || r.body != want {
			t.Errorf("%s, an error: %d %s", path, r.status, r.body)
		}
		const whole = `{"type":"message","content":[],"output":[]}`
		for name, stream := range map[string]string{
			"strange":  half + "event: new_event\ndata: {\"type\":\"message_start\"}\n\ndata: 5\n\n",
			"no usage": strings.ReplaceAll(strings.Join(tc.parts, ""), `"usage"`, `"used"`),
		} {
			b = newStreamingFixture(t, nil, answers, withCompleteResponses)
			b.local.handler = func(w http.ResponseWriter, r *http.Request) {
				if isStreaming(r, b.local.lastBody()) {
					sends(ends, stream)(w, r)
					return
				}
				_, _ = io.WriteString(w, whole)
			}
			for i, want := range []int{2, 3} { // from then on at once
				if r := b.post(path, tc.call); r.body != whole || r.backend() != "qwen" || len(b.local.requests()) != want || len(b.cloud.requests()) != 0 {
					t.Errorf("%s, %s, call %d: %d from %q after %d calls: %s", path, name, i, r.status, r.backend(), len(b.local.requests()), r.body)
				}
			}
			b.post(chatPath, nonStreamingCall)
			if got := b.local.requests()[3].body; !gjson.GetBytes(got, "stream").Bool() {
				t.Errorf("%s, %s: the next chat is sent as %s", path, name, got)
			}
		}
	}
}

// TestLocalMessageFails: the error of llama-server in the middle of a message has no
// "error" key. It is passed on in Anthropic's form, as without a stream; the call is not made
// again.
func TestLocalMessageFails(t *testing.T) {
	const own = `{"code":500,"message":"the engine failed","type":"server_error"}`
	b := newStreamingFixture(t, sends(ends, localMessage[0], localMessage[1], "event: error\ndata: "+own+"\n\n"), status(200, `{"type":"message","content":[]}`))
	call := localCalls["/v1/messages"].call
	r := b.post("/v1/messages", strings.Replace(call, "local/qwen", "local/alone", 1))
	if r.status != 500 || r.body != `{"type":"error","error":`+own+`}` || len(b.local.requests()) != 1 {
		t.Errorf("%d after %d calls: %s", r.status, len(b.local.requests()), r.body)
	}
	if r := b.post("/v1/messages", call); r.backend() != "openrouter" || r.reason() != "status" || !gjson.GetBytes(b.local.lastBody(), "stream").Bool() {
		t.Errorf("%d from %q, %q: local was sent %s", r.status, r.backend(), r.reason(), b.local.lastBody())
	}
}

// TestLocalMessageWithoutStart: the stream of a message whose first token is a part of a
// character lacks its first event. Only that call is made again without a stream.
func TestLocalMessageWithoutStart(t *testing.T) {
	const whole = `{"type":"message","content":[]}`
	b := newStreamingFixture(t, nil, answers)
	b.local.handler = func(w http.ResponseWriter, r *http.Request) {
		if isStreaming(r, b.local.lastBody()) {
			_, start, _ := strings.Cut(localMessage[0], "\n\n")
			sends(ends, start, strings.Join(localMessage[1:], ""))(w, r)
			return
		}
		_, _ = io.WriteString(w, whole)
	}
	for _, want := range []int{2, 4} {
		if r := b.post("/v1/messages", localCalls["/v1/messages"].call); r.body != whole || r.backend() != "qwen" || len(b.local.requests()) != want {
			t.Errorf("%d from %q after %d calls: %s", r.status, r.backend(), len(b.local.requests()), r.body)
		}
	}
}

// TestResumeLocalMessage: if the route has resume, the fallback continues a message that
// broke.
func TestResumeLocalMessage(t *testing.T) {
	half := localMessage[0] + strings.Replace(localMessage[1], `"1"`, wire.Quote(longText), 1) + strings.Replace(localMessage[1], `"1"`, `" 2"`, 1)
	rest := status(200, `{"id":"m","type":"message","content":[{"type":"text","text":" 3 4"}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":3}}`)
	call := strings.Replace(localCalls["/v1/messages"].call, `"max_tokens":9`, `"max_tokens":100`, 1)
	b := newStreamingFixture(t, sends(breaks, half), rest, withResume)
	r := b.post("/v1/messages", call)
	answer := gjson.Parse(r.body)
	if answer.Get("content.0.text").Str != longText+" 2 3 4" || r.reason() != "lost" || answer.Get("usage.output_tokens").Int() != 5 || answer.Get("usage.input_tokens").Int() != 7 {
		t.Errorf("%d, %q: %s", r.status, r.reason(), r.body)
	}
	asked := gjson.ParseBytes(b.cloud.lastBody())
	if asked.Get("messages.1.content").Str != longText+" 2" || asked.Get("max_tokens").Int() != 98 || asked.Get("stream").Exists() || len(b.cloud.requests()) != 1 {
		t.Errorf("the cloud was asked %s", asked.Raw)
	}
	tool := strings.Replace(half, `{"type":"text","text":""}`, `{"type":"tool_use","id":"u","name":"f"}`, 1)
	b = newStreamingFixture(t, sends(breaks, tool), rest, withResume)
	if r := b.post("/v1/messages", call); r.reason() != "lost" || gjson.GetBytes(b.cloud.lastBody(), "messages.1").Exists() || len(b.cloud.requests()) != 1 {
		t.Errorf("a tool: %d, %q, asked %s", r.status, r.reason(), b.cloud.lastBody())
	}
}
