package aggregate

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// TestAggregateMemory: what an aggregator keeps of a stream is not many times larger than
// the stream.
func TestAggregateMemory(t *testing.T) {
	a := &chunkAggregator{chat: true}
	list := strings.TrimSuffix(strings.Repeat("1,", 500_000), ",")
	for range 2 {
		if err := a.Add(wire.Event{Data: []byte(`{"choices":[{"index":0,"delta":{"l":[` + list + `]},"finish_reason":"stop"}]}`)}); err != nil {
			t.Fatal(err)
		}
	}
	a.ended = true
	if l := a.choices[0].fields["delta"].fields["l"]; len(l.list) != 0 {
		t.Errorf("the list is kept in %d parts", len(l.list))
	}
	if whole, err := a.Result(); err != nil || gjson.GetBytes(whole, "choices.0.message.l").Raw != "["+list+","+list+"]" {
		t.Errorf("%v, %d bytes", err, len(whole))
	}
	var fields strings.Builder
	for i := range 300_000 {
		fmt.Fprintf(&fields, `,"%d":1`, i)
	}
	object := "{" + fields.String()[1:] + "}"
	for path, e := range map[string]string{
		chatPath:       `{"choices":[{"index":0,"delta":` + object + `}]}`,
		textPath:       object,
		"/v1/messages": `{"type":"message_start","message":` + object + `}`,
	} {
		if err := ForUpstream(path).Add(wire.Event{Data: []byte(e)}); !errors.Is(err, ErrTooLong) {
			t.Errorf("%s: %v after %d KiB", path, err, len(e)>>10)
		}
	}
	part := `{"type":"output_text","text":"x"},`
	final := `{"output":[{"content":[` + strings.TrimSuffix(strings.Repeat(part, 1<<16), ",") + `]}]}`
	r := &responseAggregator{final: final}
	if whole, err := r.Result(); err != nil || len(whole) != len(final) {
		t.Error(err)
	}
}

// TestLocalAsStream: a field that was not tried leaves the call as it is.
func TestLocalAsStream(t *testing.T) {
	for _, tc := range []struct {
		path, raw string
		want      bool
	}{
		{"/v1/messages", `{"messages":[{"role":"user"}]}`, true},
		{"/v1/messages", `{"messages":[{"role":"user"}],"stream":true}`, false},
		{"/v1/messages", `{"messages":[{"role":"user"}],"container":"x"}`, false},
		{"/v1/messages", `{"messages":[{"role":"user"},{"role":"assistant"}]}`, false},
		{"/v1/messages", `{"max_tokens":5}`, false},
		{"/v1/messages", `{"messages":[{"role":"user"}],"max_tokens":5,"max_tokens":6}`, false},
		{"/v1/responses", `{"input":"x"}`, true},
		{"/v1/responses", `{"input":[{"role":"user"}],"top_k":4}`, true},
		{"/v1/responses", `{"input":[{"type":"function_call_output"}]}`, true},
		{"/v1/responses", `{"input":[{"type":"function_call"}]}`, false},
		{"/v1/responses", `{"input":[{"type":"message","role":"assistant"}]}`, false},
		{"/v1/responses", `{"input":[]}`, false},
		{"/v1/responses", `{"input":5}`, false},
		{"/v1/responses", `{"input":"x","n":2}`, false},
		{"/v1/responses", `{"input":"x","stop":"y"}`, false},
		{"/v1/responses", `{"input":"x","background":true}`, false},
		{"/v1/responses", `{"input":"x","previous_response_id":"y"}`, false},
		{"/v1/responses/x", `{"input":"x"}`, false},
	} {
		if _, ok := AsStream(mustParse(t, tc.raw), tc.path); ok != tc.want {
			t.Errorf("%s %s: streams: %t", tc.path, tc.raw, ok)
		}
	}
}

// TestCountedForm: what is added to a stream's body to request its usage, and
// where it is unchanged.
func TestCountedForm(t *testing.T) {
	for name, tc := range map[string]struct{ path, body, want string }{
		"no options":         {chatPath, ` {"model":"a","stream":true}`, ` {"stream_options":{"include_usage":true},"model":"qwen","stream":true}`},
		"completions":        {"/v1/completions", `{"stream":true,"model":"a"}`, `{"stream_options":{"include_usage":true},"stream":true,"model":"qwen"}`},
		"null":               {chatPath, `{"model":"a","stream_options": null ,"stream":true}`, `{"model":"qwen","stream_options": {"include_usage":true} ,"stream":true}`},
		"empty":              {chatPath, `{"stream":true,"stream_options":{},"model":"a"}`, `{"stream":true,"stream_options":{"include_usage":true},"model":"qwen"}`},
		"something else":     {chatPath, `{"stream":true,"stream_options":{"x":1e400},"model":"a"}`, `{"stream":true,"stream_options":{"include_usage":true,"x":1e400},"model":"qwen"}`},
		"not wanted":         {chatPath, `{"stream":true,"stream_options":{"x":1,"include_usage":false},"model":"a"}`, `{"stream":true,"stream_options":{"x":1,"include_usage":true},"model":"qwen"}`},
		"asked for":          {chatPath, `{"model":"a","stream":true,"stream_options":{"include_usage":true}}`, ""},
		"asked for, escaped": {chatPath, `{"model":"a","stream":true,"stream_options":{"include\u005fusage":true}}`, ""},
		"given twice":        {chatPath, `{"model":"a","stream":true,"stream_options":{"include_usage":false,"include_usage":false}}`, ""},
		"options twice":      {chatPath, `{"model":"a","stream":true,"stream_options":{},"stream_options":{}}`, ""},
		"no object":          {chatPath, `{"model":"a","stream":true,"stream_options":7}`, ""},
		"no stream":          {chatPath, `{"model":"a","stream":false}`, ""},
		"another dialect":    {"/v1/messages", `{"model":"a","stream":true}`, ""},
	} {
		b, err := request.ParseBody([]byte(tc.body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		form, ok := WithUsage(b, tc.path)
		got := ""
		if ok {
			raw, err := io.ReadAll(form.WithModel("qwen").Open())
			if err != nil {
				t.Fatal(err)
			}
			got = string(raw)
		}
		if got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tc.want)
		}
	}
}
