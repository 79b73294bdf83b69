package router

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	chatPath = "/v1/chat/completions"
	textPath = "/v1/completions"
)

// Streams as upstreams send them, and the answers that they are.
const (
	cloudChat = ": OPENROUTER PROCESSING\n\n" +
		`data: {"id":"gen-1","provider":"p","model":"m","object":"chat.completion.chunk","created":1,"obfuscation":"xx","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null,"native_finish_reason":null,"logprobs":null}]}` + "\n\n" +
		`data: {"id":"gen-1","provider":"p","model":"m","object":"chat.completion.chunk","created":2,"choices":[{"index":0,"delta":{"role":"assistant","content":"h\"\ud83d"},"logprobs":{"content":[{"token":"h","logprob":-0.10}]}}]}` + "\n\n" +
		`data: {"id":"gen-1","provider":"p","model":"m","object":"chat.completion.chunk","created":2,"choices":[{"index":0,"delta":{"content":"\ude00","reasoning":"r"},"finish_reason":null,"logprobs":{"content":[{"token":"i","logprob":-1e-9}]}}]}` + "\n\n" +
		`data: {"id":"gen-1","provider":"p","model":"m","object":"chat.completion.chunk","created":2,"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","native_finish_reason":"end"}]}` + "\n\n"
	cloudUsage = `data: {"id":"gen-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2,"cost":0.00012}}` + "\n\n"
	chatWanted = `{"id":"gen-1","provider":"p","model":"m","object":"chat.completion","created":1,"choices":[{"index":0,"message":{"role":"assistant","content":"h\"😀","refusal":null,"reasoning":"r"},` +
		`"finish_reason":"stop","native_finish_reason":"end","logprobs":{"content":[{"token":"h","logprob":-0.10},{"token":"i","logprob":-1e-9}]}}],"usage":{"prompt_tokens":4,"completion_tokens":2,"cost":0.00012}}`

	cloudCalls = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":null,"arguments":"{\"a\""}}]}}]}` + "\n\n" +
		`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}` + "\n\n" +
		`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}` + "\n\n"
	callsWanted = `{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[` +
		`{"id":"x","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"y","type":"function","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`

	cloudText = `data: {"id":"t","object":"text_completion","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}]}` + "\n\n" +
		`data: {"id":"t","object":"text_completion","choices":[{"text":"b","index":1,"logprobs":{"tokens":["b"],"text_offset":[0]},"finish_reason":"length"}]}` + "\n\n" +
		`data: {"id":"t","object":"text_completion","choices":[{"text":"c","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":3}}` + "\n\n"
	textWanted = `{"id":"t","object":"text_completion","choices":[{"index":0,"text":"ac","logprobs":null,"finish_reason":"stop"},{"index":1,"text":"b","logprobs":{"tokens":["b"],"text_offset":[0]},"finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":3}}`

	cloudMessage = "event: message_start\n" + `data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"c","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"output_tokens":1}}}` + "\n\n" +
		"event: ping\n" + `data: {"type":"ping"}` + "\n\n" +
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s="}}` + "\n\n" +
		"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"he"}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"llo"}}` + "\n\n" +
		"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":1}` + "\n\n" +
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"u","name":"f","input":{}}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}` + "\n\n" +
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":": 1}"}}` + "\n\n" +
		"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":2}` + "\n\n" +
		"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}` + "\n\n"
	cloudStop     = "event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
	messageWanted = `{"id":"m","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s="},{"type":"text","text":"hello"},{"type":"tool_use","id":"u","name":"f","input":{"a":1}}],` +
		`"model":"c","stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":4,"output_tokens":9}}`

	responseWanted = `{"id":"r","object":"response","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"hello"}]}],"usage":{"input_tokens":4,"output_tokens":2}}`
	cloudItem      = "event: response.created\n" + `data: {"type":"response.created","response":{"id":"r","status":"in_progress"}}` + "\n\n" +
		"event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","delta":"hel"}` + "\n\n" +
		"event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","delta":"lo"}` + "\n\n" +
		"event: response.output_item.done\n" + `data: {"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"hello"}]}}` + "\n\n"
	cloudResponse = cloudItem + "event: response.completed\n" + `data: {"type":"response.completed","response":` + responseWanted + `}` + "\n\n"
)

// unstreamed are calls without a stream, by the path.
var unstreamed = map[string]string{
	"/v1/chat/completions": `{"model":"gpt-4o","messages":[]}`, "/v1/completions": `{"model":"gpt-4o","prompt":"x","stream":false}`,
	"/v1/messages": `{"model":"gpt-4o","max_tokens":9,"messages":[],"stream":null}`, "/v1/responses": `{"model":"gpt-4o","input":"x"}`,
}

// TestAggregateUpstreamStream: an upstream that answers a call without a stream with one has
// its events aggregated, and the client gets the JSON that it asked for.
func TestAggregateUpstreamStream(t *testing.T) {
	for name, tc := range map[string]struct{ path, stream, want string }{
		"chat":                        {chatPath, cloudChat + cloudUsage + doneEvent, chatWanted},
		"chat, tools":                 {chatPath, cloudCalls + doneEvent, callsWanted},
		"chat, no end mark":           {chatPath, cloudChat + cloudUsage, chatWanted},
		"chat, a mark and a space":    {chatPath, cloudChat + cloudUsage + "data: [DONE] \n\n", chatWanted},
		"chat, tools from 1":          {chatPath, strings.NewReplacer(`"tool_calls":[{"index":0`, `"tool_calls":[{"index":1`, `{"index":1,"id":"y"`, `{"index":2,"id":"y"`).Replace(cloudCalls) + doneEvent, callsWanted},
		"chat, tools without index":   {chatPath, strings.NewReplacer(`"tool_calls":[{"index":0,`, `"tool_calls":[{`, `{"index":1,"id":"y"`, `{"id":"y"`).Replace(cloudCalls) + doneEvent, callsWanted},
		"completions":                 {textPath, cloudText + doneEvent, textWanted},
		"completions, a token":        {textPath, strings.ReplaceAll(cloudText, `"text_offset":[0]`, `"top_logprobs":[{"index":-0.1}]`) + doneEvent, strings.ReplaceAll(textWanted, `"text_offset":[0]`, `"top_logprobs":[{"index":-0.1}]`)},
		"messages, another mark":      {"/v1/messages", cloudMessage + doneEvent, messageWanted},
		"responses, half a character": {"/v1/responses", strings.NewReplacer(`"delta":"hel"`, `"delta":"\ud83d"`, `"delta":"lo"`, `"delta":"\ude00"`, `"hello"`, `"\ud83d\ude00"`).Replace(cloudResponse), strings.Replace(responseWanted, "hello", "😀", 1)},
		"messages":                    {"/v1/messages", cloudMessage + cloudStop, messageWanted},
		"messages, no end":            {"/v1/messages", cloudMessage, messageWanted},
		"responses":                   {"/v1/responses", cloudResponse, responseWanted},
		"responses, with mark":        {"/v1/responses", cloudResponse + doneEvent, responseWanted},
		"responses, items":            {"/v1/responses", strings.Replace(cloudResponse, `"output":[{"type":"message","content":[{"type":"output_text","text":"hello"}]}]`, `"output":[]`, 1), responseWanted},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, nil, sends(ends, tc.stream))
			r := b.post(tc.path, unstreamed[tc.path])
			var got, want any
			if err := errors.Join(json.Unmarshal([]byte(r.body), &got), json.Unmarshal([]byte(tc.want), &want)); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v\ngot  %s\nwant %s", err, r.body, tc.want)
			}
			if r.status != 200 || r.header.Get("Content-Type") != "application/json; charset=utf-8" || r.backend() != "openrouter" {
				t.Errorf("%d from %q: %v", r.status, r.backend(), r.header)
			}
			if strings.Contains(tc.want, "usage") && !strings.Contains(b.log.String(), `"prompt_tokens":4`) {
				t.Errorf("the tokens are not in the log: %s", b.log)
			}
		})
	}
}

// TestAggregateUpstreamStreamFails: what cannot be aggregated is no answer; it may have been
// paid for, so no other upstream is asked.
func TestAggregateUpstreamStreamFails(t *testing.T) {
	chatHalf := cloudChat[:strings.LastIndex(strings.TrimSpace(cloudChat), "\n\n")] + "\n\n"
	for name, tc := range map[string]struct {
		path   string
		cloud  http.HandlerFunc
		reason string
	}{
		"chat, broken":           {chatPath, sends(breaks, chatHalf), "lost"},
		"chat, ended":            {chatPath, sends(ends, chatHalf), "lost"},
		"chat, reset at its end": {chatPath, sends(breaks, cloudChat+cloudUsage), "lost"},
		"chat, half an event":    {chatPath, sends(ends, cloudChat+cloudUsage, `data: {"cho`), "lost"},
		"chat, text after it":    {chatPath, sends(ends, cloudChat, `data: {"choices":[{"index":0,"delta":{"content":" more"}}]}`+"\n\n"), "lost"},
		"chat, an empty reason":  {chatPath, sends(ends, strings.ReplaceAll(cloudChat, `"finish_reason":"stop"`, `"finish_reason":""`)), "lost"},
		"chat, in an event":      {chatPath, sends(ends, chatHalf, `data: {"cho`), "lost"},
		"chat, an error":         {chatPath, sends(ends, chatHalf, `data: {"error":{"code":502,"message":"provider down"}}`+"\n\n"+doneEvent), "bad_response"},
		"chat, an error inside":  {chatPath, sends(ends, chatHalf, `data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error","error":{"code":502,"message":"provider down"}}]}`+"\n\n"+doneEvent), "bad_response"},
		"chat, no reason":        {chatPath, sends(ends, chatHalf, doneEvent), "bad_response"},
		"chat, another tool":     {chatPath, sends(ends, strings.Replace(cloudCalls, `"id":"x","type":"function","function":{"name":null`, `"id":"z","type":"function","function":{"name":null`, 1)+doneEvent), "bad_response"},
		"chat, two tools as one": {chatPath, sends(ends, strings.NewReplacer(`"tool_calls":[{"index":0,`, `"tool_calls":[{`, `{"index":1,"id":"y",`, `{`).Replace(cloudCalls)+doneEvent), "bad_response"},
		"chat, a tool left out":  {chatPath, sends(ends, strings.Replace(cloudCalls, `{"index":1,"id":"y"`, `{"index":2,"id":"y"`, 1)+doneEvent), "bad_response"},
		"messages, half":         {"/v1/messages", sends(ends, cloudMessage[:strings.LastIndex(cloudMessage, "event:")]+doneEvent), "bad_response"},
		"chat, unknown deltas":   {chatPath, sends(ends, strings.ReplaceAll(cloudChat, `"content"`, `"unheard_of"`)+doneEvent), "bad_response"},
		"completions, broken":    {textPath, sends(breaks, cloudText[:strings.LastIndex(cloudText, "data:")]), "lost"},
		"messages, broken":       {"/v1/messages", sends(breaks, cloudMessage[:strings.LastIndex(cloudMessage, "event:")]), "lost"},
		"messages, reset at end": {"/v1/messages", sends(breaks, cloudMessage), "lost"},
		"messages, an error":     {"/v1/messages", sends(ends, cloudMessage[:strings.LastIndex(cloudMessage, "event:")], "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n"), "bad_response"},
		"messages, half a tool":  {"/v1/messages", sends(ends, strings.Replace(cloudMessage, `": 1}"`, `": "`, 1)+cloudStop), "bad_response"},
		"messages, a new delta":  {"/v1/messages", sends(ends, strings.Replace(cloudMessage, "signature_delta", "new_delta", 1)+cloudStop), "bad_response"},
		"responses, broken":      {"/v1/responses", sends(breaks, cloudItem), "lost"},
		"responses, failed":      {"/v1/responses", sends(ends, cloudItem, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"message\":\"down\"}}}\n\n"), "bad_response"},
		"responses, other words": {"/v1/responses", sends(ends, strings.Replace(cloudResponse, `"delta":"lo"`, `"delta":"l!"`, 1)), "bad_response"},
	} {
		t.Run(name, func(t *testing.T) {
			var second *fakeBackend
			b := newFixture(t, nil, tc.cloud, func(c *plan.Config, routes map[string]models.Route) {
				second = newFakeBackend(t, answers)
				c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "sk-2"})
				routes["gpt-4o"] = models.Route{Primary: "openrouter", Fallback: "second", Timeout: time.Minute}
			})
			r := b.post(tc.path, unstreamed[tc.path])
			if r.status != 502 || r.reason() != tc.reason || len(b.cloud.requests()) != 1 || len(second.requests()) != 0 || !gjson.Valid(r.body) {
				t.Errorf("%d, %q after %d and %d calls: %s", r.status, r.reason(), len(b.cloud.requests()), len(second.requests()), r.body)
			}
		})
	}
}

// TestAggregateUpstreamStreamWithoutEnd: without its end mark a stream is complete after a clean
// end alone, once each choice that the call asks for has its finish reason.
func TestAggregateUpstreamStreamWithoutEnd(t *testing.T) {
	two := cloudChat + strings.ReplaceAll(cloudChat, `"choices":[{"index":0`, `"choices":[{"index":1`)
	for name, tc := range map[string]struct {
		call   string
		cloud  http.HandlerFunc
		reason string
	}{
		"both choices":       {`"n":2`, sends(ends, two), ""},
		"both, reset":        {`"n":2`, sends(breaks, two), "lost"},
		"both, silent":       {`"n":2`, sends(hangs, two), "stalled"},
		"one choice of two":  {`"n":2`, sends(ends, cloudChat), "lost"},
		"one, with end mark": {`"n":2`, sends(ends, cloudChat, doneEvent), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, nil, tc.cloud, func(c *plan.Config, _ map[string]models.Route) {
				if tc.reason == "stalled" {
					c.IdleTimeout = 200 * time.Millisecond
				}
			})
			r := b.post(chatPath, `{"model":"gpt-4o","messages":[],`+tc.call+`}`)
			if want := map[bool]int{true: 200, false: 502}[tc.reason == ""]; r.status != want || r.reason() != tc.reason {
				t.Errorf("%d, %q: %s", r.status, r.reason(), r.body)
			}
		})
	}
}

// TestAggregateUpstreamStreamCost: no later event can lower the cost that the upstream
// reported, or hide text that it generated.
func TestAggregateUpstreamStreamCost(t *testing.T) {
	const (
		withCost = `"usage":{"prompt_tokens":4,"completion_tokens":2,"cost":0.5}`
		without  = `data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}` + "\n\n"
	)
	text := strings.Repeat("word ", 20_000) // at least 6250 tokens
	for name, tc := range map[string]struct{ path, stream, charged string }{
		"a usage without it": {chatPath, cloudChat + `data: {"choices":[],` + withCost + "}\n\n" + without + doneEvent, "0.5"},
		"an error":           {chatPath, `data: {"error":{"code":502,"message":"down"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],` + withCost + "}\n\n" + doneEvent, "0.5"},
		"the final event":    {"/v1/responses", "event: response.completed\n" + `data: {"type":"response.completed","response":` + strings.Replace(strings.Replace(responseWanted, "hello", text, 1), `"input_tokens":4`, `"input_tokens":0`, 1) + "}\n\n", "12.5"},
		"a block's start": {"/v1/messages", strings.NewReplacer(`"content_block":{"type":"text","text":""}`, `"content_block":{"type":"text","text":"`+text+`"}`,
			`"thinking":"hm"`, `"thinking":""`, `"text":"he"`, `"text":""`, `"text":"llo"`, `"text":""`, `"{\"a\""`, `"{"`, `": 1}"`, `"}"`, `"input_tokens":4`, `"input_tokens":0`).Replace(cloudMessage) + cloudStop, "12.5"},
	} {
		t.Run(name, func(t *testing.T) {
			edit, acct := withLedger(t, accountingtest.Daily("1000"))
			b := newFixture(t, nil, sends(ends, tc.stream), edit)
			r := b.post(tc.path, unstreamed[tc.path])
			if got := usageBy(t, acct, ledger.ByModel).Total; got.Charged != accountingtest.USD(tc.charged) {
				t.Errorf("charged %s, want %s: %d %.300s", got.Charged, tc.charged, r.status, r.body)
			}
		})
	}
}

// TestInvalidStreamField: where the client's "stream" is neither true nor false, the upstream
// decides what it is.
func TestInvalidStreamField(t *testing.T) {
	b := newFixture(t, nil, sends(ends, cloudChat+cloudUsage+doneEvent))
	r := b.post("/v1/chat/completions", `{"model":"gpt-4o","messages":[],"stream":1}`)
	if r.body != cloudChat+cloudUsage+doneEvent || r.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v %s", r.header, r.body)
	}
}

// FuzzAggregate: whatever an upstream streams, the answer that is made of it is a JSON
// object.
func FuzzAggregate(f *testing.F) {
	paths := []string{chatPath, textPath, "/v1/messages", "/v1/responses"}
	for i, stream := range []string{cloudChat + cloudUsage + doneEvent, cloudText + doneEvent, cloudMessage + cloudStop, cloudResponse} {
		f.Add(stream, uint8(i))
	}
	f.Add(cloudCalls+doneEvent, uint8(0))
	f.Fuzz(func(t *testing.T, stream string, path uint8) {
		a, events := aggregate.ForUpstream(paths[int(path)%len(paths)]), wire.NewEventReader(strings.NewReader(stream))
		for {
			e, err := events.Next()
			if err != nil || a.Add(e) != nil {
				break
			}
		}
		for _, whole := range []func() ([]byte, error){a.Result, func() ([]byte, error) {
			if out, ok := a.ResultAtLimit(); ok {
				return out, nil
			}
			return nil, aggregate.ErrTruncated
		}} {
			if out, err := whole(); err == nil && !wire.ValidJSON(out) {
				t.Fatalf("%q becomes %s", stream, out)
			}
		}
	})
}
