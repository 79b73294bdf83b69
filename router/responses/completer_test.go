package responses

import (
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// named returns an event whose name is its type.
func named(kind, members string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"," + members + "}\n\n"
}

// complete passes a stream through a Completer.
func complete(t *testing.T, c *Completer, stream string) string {
	t.Helper()
	var out strings.Builder
	for r := wire.NewEventReader(strings.NewReader(stream)); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		out.Write(c.Event(e))
	}
}

// created_at is the time of the call.
var createdAt = regexp.MustCompile(`"created_at":\d+`)

const (
	beginning      = `"created_at":1,"error":null,"incomplete_details":null,"instructions":"be \"brief\"","metadata":{},"model":"qwen","output":[],"parallel_tool_calls":false,"temperature":1e0,"tool_choice":"auto","tools":[{"type":"function","name":"f","strict":true,"parameters":null},{"type":"web_search"}],"top_p":null,"access_programs":null` // of the request in TestEvents
	reasoningAdded = `"item":{"type":"reasoning","id":"rs_1","summary":[],"content":[],"status":"in_progress"}`
	reasoningDone  = `"item":{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"a \"b\""}]}`
)

func TestEvents(t *testing.T) {
	for name, tc := range map[string]struct{ stream, want string }{
		"the beginning": {
			named("response.created", `"response":{"id":"r1","object":"response","status":"in_progress"}`),
			named("response.created", `"response":{"id":"r1","object":"response","status":"in_progress",`+beginning+`},"sequence_number":0`),
		},
		"text": {
			named("response.output_item.added", `"item":{"type":"message","id":"m1"}`) +
				named("response.content_part.added", `"item_id":"m1","part":{"type":"output_text","text":""}`) +
				named("response.output_text.delta", `"item_id":"m1","delta":"}{"`) +
				named("response.output_text.done", `"item_id":"m1","text":"}{"`),
			named("response.output_item.added", `"item":{"type":"message","id":"m1","content":[],"role":"assistant","status":"in_progress"},"output_index":0,"sequence_number":0`) +
				named("response.content_part.added", `"item_id":"m1","part":{"type":"output_text","text":"","annotations":[],"logprobs":[]},"output_index":0,"content_index":0,"sequence_number":1`) +
				named("response.output_text.delta", `"item_id":"m1","delta":"}{","output_index":0,"content_index":0,"logprobs":[],"sequence_number":2`) +
				named("response.output_text.done", `"item_id":"m1","text":"}{","output_index":0,"content_index":0,"logprobs":[],"sequence_number":3`),
		},
		"without an item's id": {
			named("response.output_item.added", `"item":{"type":"message","id":"m1","content":[],"role":"assistant","status":"in_progress"}`) + named("response.output_text.delta", `"delta":"x"`),
			named("response.output_item.added", `"item":{"type":"message","id":"m1","content":[],"role":"assistant","status":"in_progress"},"output_index":0,"sequence_number":0`) +
				named("response.output_text.delta", `"delta":"x","item_id":"m1","output_index":0,"content_index":0,"logprobs":[],"sequence_number":1`),
		},
		"reasoning": {
			named("response.output_item.added", reasoningAdded) + named("response.reasoning_text.delta", `"item_id":"rs_1","delta":"a \"b\""`) + named("response.output_item.done", reasoningDone),
			named("response.output_item.added", reasoningAdded+`,"output_index":0,"sequence_number":0`) +
				named("response.content_part.added", `"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""},"sequence_number":1`) +
				named("response.reasoning_text.delta", `"item_id":"rs_1","delta":"a \"b\"","output_index":0,"content_index":0,"sequence_number":2`) +
				named("response.reasoning_text.done", `"item_id":"rs_1","output_index":0,"content_index":0,"text":"a \"b\"","sequence_number":3`) +
				named("response.content_part.done", `"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"a \"b\""},"sequence_number":4`) +
				named("response.output_item.done", strings.TrimSuffix(reasoningDone, "}")+`,"status":"completed"},"output_index":0,"sequence_number":5`),
		},
		"a call without an id, as of older builds": {
			named("response.output_item.added", `"item":{"type":"function_call","call_id":"fc_1","name":"f","arguments":"","status":"in_progress"}`) +
				named("response.function_call_arguments.delta", `"item_id":"fc_1","delta":"{}"`) +
				named("response.output_item.done", `"item":{"type":"function_call","call_id":"fc_1","name":"f","arguments":"{}","status":"completed"}`),
			named("response.output_item.added", `"item":{"type":"function_call","call_id":"fc_1","name":"f","arguments":"","status":"in_progress","id":"fc_1"},"output_index":0,"sequence_number":0`) +
				named("response.function_call_arguments.delta", `"item_id":"fc_1","delta":"{}","output_index":0,"sequence_number":1`) +
				named("response.function_call_arguments.done", `"item_id":"fc_1","output_index":0,"name":"f","arguments":"{}","sequence_number":2`) +
				named("response.output_item.done", `"item":{"type":"function_call","call_id":"fc_1","name":"f","arguments":"{}","status":"completed","id":"fc_1"},"output_index":0,"sequence_number":3`),
		},
		"the beginning again": {
			named("response.output_item.added", reasoningAdded) +
				named("response.created", `"response":{"id":"r1"}`) + named("response.in_progress", `"response":{"id":"r1"}`),
			named("response.output_item.added", reasoningAdded+`,"output_index":0,"sequence_number":0`),
		},
		"a server that numbers its events": {
			named("response.output_item.added", reasoningAdded+`,"output_index":7,"sequence_number":5`) + named("response.reasoning_text.delta", `"item_id":"rs_1","delta":"a","output_index":7,"content_index":2,"sequence_number":6`),
			named("response.output_item.added", reasoningAdded+`,"output_index":7,"sequence_number":5`) + named("response.reasoning_text.delta", `"item_id":"rs_1","delta":"a","output_index":7,"content_index":2,"sequence_number":6`),
		},
		"an error": {
			`data: {"error":{"code":500,"message":"it \"failed\"","type":"server_error"}}` + "\n\n",
			"event: error\n" + `data: {"error":{"code":500,"message":"it \"failed\"","type":"server_error"},"type":"error","code":"server_error","message":"it \"failed\"","param":null,"sequence_number":0}` + "\n\n",
		},
		"only the end": {
			named("response.completed", `"response":{"id":"r1","tools":5,"instructions":1,"output":[]}`),
			named("response.created", `"response":{"id":"r1","object":"response","status":"in_progress",`+beginning+`},"sequence_number":0`) +
				named("response.in_progress", `"response":{"id":"r1","object":"response","status":"in_progress",`+beginning+`},"sequence_number":1`) +
				named("response.completed", `"response":{"id":"r1","tools":5,"instructions":1,"output":[],"created_at":1,"error":null,"incomplete_details":null,"metadata":{},"model":"qwen","parallel_tool_calls":false,"temperature":1e0,"tool_choice":"auto","top_p":null,"access_programs":null},"sequence_number":2`),
		},
		"an unknown event": {named("response.new", `"a":1`), named("response.new", `"a":1,"sequence_number":0`)},
		"not of llama-server": {
			": ping\n\n" + "data: [DONE]\n\n" + "data: {\"a\":\n\n" + "data: {\"a\":\ndata: 1}\n\n",
			": ping\n\n" + "data: [DONE]\n\n" + "data: {\"a\":\n\n" + "data: {\"a\":\ndata: 1}\n\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New([]byte(`{"model":"m","instructions":"be \"brief\"","metadata":null,"parallel_tool_calls":false,"temperature":1e0,"tools":[{"type":"function","name":"f","strict":true},{"type":"web_search"}]}`), "qwen", true)
			if got := createdAt.ReplaceAllString(complete(t, c, tc.stream), `"created_at":1`); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
			full := New(nil, "", false)
			if got := complete(t, full, tc.stream); got != tc.stream {
				t.Errorf("an upstream's became\n%s", got)
			}
		})
	}
}

// TestOwnError: an error event of llmsup's own has the number of the next event, in the stream
// of an upstream too.
func TestOwnError(t *testing.T) {
	for _, partial := range []bool{true, false} {
		c := New(nil, "", partial)
		complete(t, c, ": ping\n\n"+named("response.new", `"a":1`)+named("response.new", `"a":1`))
		e, err := wire.NewEventReader(strings.NewReader(string(c.Error(wire.Responses{}.ErrorEvent(wire.Error{Code: "lost", Message: "m"}))))).Next()
		if err != nil || string(e.Data) != `{"type":"error","code":"lost","message":"m","param":null,"sequence_number":2}` || string(e.Name) != "error" {
			t.Errorf("partial %t: %s, %v", partial, e.Raw, err)
		}
	}
}

func TestWhole(t *testing.T) {
	const answer = `{"completed_at":6,"created_at":5,"id":"r","model":"demo","output":[{"type":"message","content":[{"type":"output_text","text":"1"}],"id":"m"}, {"type":"new","x":1}],"usage":{"input_tokens":4}}`
	got := string(New([]byte(`{}`), "qwen", true).Whole([]byte(answer)))
	const want = `{"completed_at":6,"created_at":5,"id":"r","model":"demo","output":[{"type":"message","content":[{"type":"output_text","text":"1","annotations":[],"logprobs":[]}],"id":"m","role":"assistant","status":"completed"}, {"type":"new","x":1}],"usage":{"input_tokens":4,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens_details":{"reasoning_tokens":0}},"error":null,"incomplete_details":null,"instructions":null,"metadata":{},"parallel_tool_calls":true,"temperature":null,"tool_choice":"auto","tools":[],"top_p":null,"access_programs":null}`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again := string(New([]byte(`{"tools":[{}]}`), "other", true).Whole([]byte(got)))
	if again != got {
		t.Errorf("what is complete became\n%s", again)
	}
	for _, other := range []string{"", "[]", "5", `{"a":`, `{}`} {
		got := string(New([]byte(`{}`), "", true).Whole([]byte(other)))
		if other == "{}" && !gjson.Get(got, "output").Exists() || other != "{}" && got != other {
			t.Errorf("%q became %q", other, got)
		}
	}
}

// FuzzEvent: what the server sent is in the result, which is valid if the event was.
func FuzzEvent(f *testing.F) {
	f.Add(`{"type":"response.output_item.done",` + reasoningDone + `}`)
	f.Add(`{"type":"response.output_item.added","item":{"type":"function_call","arguments":5}}`)
	f.Add(`{"type":"response.completed","response":{"output":[{"type":"message","content":[{}]}],"usage":{"input_tokens_details":[]}}}`)
	f.Add(`{"error":"x"}`)
	f.Add(`{"type":"response.content_part.added","part":{"type":"output_text"},"item_id":5}`)
	f.Fuzz(func(t *testing.T, data string) {
		if strings.ContainsAny(data, "\r\n") || data == "" {
			return
		}
		raw := "data: " + data + "\n\n"
		e, err := wire.NewEventReader(strings.NewReader(raw)).Next()
		if err != nil {
			t.Fatal(err)
		}
		valid := wire.ValidJSON(e.Data)
		got := string(New([]byte(`{"tools":[1],"metadata":5}`), "m", true).Event(e))
		if !valid && got != raw {
			t.Fatalf("%q became %q", raw, got)
		}
		for r := wire.NewEventReader(strings.NewReader(got)); valid; {
			e, err := r.Next()
			if err != nil {
				break
			}
			if !wire.ValidJSON(e.Data) {
				t.Fatalf("%q became %q", raw, got)
			}
		}
	})
}
