package aggregate

import (
	"io"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
)

const (
	chatPath = "/v1/chat/completions"
	textPath = "/v1/completions"
)

func TestAsStream(t *testing.T) {
	const on = streamingOn
	for name, tc := range map[string]struct{ path, raw, want string }{
		"added": {
			chatPath, `{"model":"a","messages":[{"role":"user","content":"hi"}]}`,
			`{` + on + `,"model":"b","messages":[{"role":"user","content":"hi"}]}`,
		},
		"false replaced": {
			chatPath, `{"model":"a", "stream" : false ,"messages":[{"role":"user"}],"temperature":1e400}`,
			`{"model":"b", ` + on + ` ,"messages":[{"role":"user"}],"temperature":1e400}`,
		},
		"null replaced, before the model": {
			textPath, ` { "stream":null,"prompt":"x","model":"a" } `,
			` { ` + on + `,"prompt":"x","model":"b" } `,
		},
		"escaped key": {
			textPath, `{"\u0073tream":false,"prompt":"x","model":"a"}`,
			`{` + on + `,"prompt":"x","model":"b"}`,
		},
		"without a model": {textPath, `{"prompt":"x"}`, `{` + on + `,"prompt":"x"}`},
		"the same model":  {textPath, `{"prompt":"x","model":"b","stream":false}`, `{"prompt":"x","model":"b",` + on + `}`},
		"tokens":          {textPath, `{"prompt":[1,2]}`, `{` + on + `,"prompt":[1,2]}`},
		"logprobs":        {textPath, `{"prompt":["x"],"logprobs":3,"stop":null}`, `{` + on + `,"prompt":["x"],"logprobs":3,"stop":null}`},
		"no logprobs":     {textPath, `{"prompt":"x","logprobs":0,"stop":"a"}`, `{` + on + `,"prompt":"x","logprobs":0,"stop":"a"}`},
		"deep":            {chatPath, `{"messages":[{"role":"assistant"},{"role":"user","content":{"stream":1,"role":"assistant"}}]}`, `{` + on + `,"messages":[{"role":"assistant"},{"role":"user","content":{"stream":1,"role":"assistant"}}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			s, ok := AsStream(mustParse(t, tc.raw), tc.path)
			if !ok {
				t.Fatal("it does not stream")
			}
			p := s.WithModel("b")
			got, err := io.ReadAll(p.Open())
			if err != nil || string(got) != tc.want || p.Size() != len(tc.want) {
				t.Errorf("got  %s (%v)\nwant %s", got, err, tc.want)
			}
		})
	}
}

func TestNotAsStream(t *testing.T) {
	const chat, text = `{"messages":[{"role":"user"}],`, `{"prompt":"x",`
	for name, tc := range map[string]struct{ path, raw string }{
		"another path":              {"/v1/responses", text + `"n":1}`},
		"a longer path":             {textPath + "/x", text + `"n":1}`},
		"it streams":                {chatPath, chat + `"stream":true}`},
		"stream is odd":             {chatPath, chat + `"stream":0}`},
		"stream is there twice":     {chatPath, chat + `"stream":false,"\u0073tream":true}`},
		"temperature twice":         {chatPath, chat + `"temperature":1,"temperature":2}`},
		"stream options":            {chatPath, chat + `"stream_options":null}`},
		"an unknown field":          {chatPath, chat + `"unheard_of":1}`},
		"a field of completions":    {chatPath, chat + `"prompt":"x"}`},
		"a field of chats":          {textPath, text + `"tools":[]}`},
		"logprobs of a chat":        {chatPath, chat + `"logprobs":true}`},
		"logprobs and stop strings": {textPath, text + `"logprobs":1,"stop":["a"]}`},
		"timings for each token":    {chatPath, chat + `"timings_per_token":false}`},
		"reasoning elsewhere":       {chatPath, chat + `"reasoning_format":"deepseek-legacy"}`},
		"reasoning is odd":          {chatPath, chat + `"reasoning_format":[]}`},
		"no prompt":                 {textPath, `{"n":1}`},
		"no messages":               {chatPath, `{"n":1}`},
		"empty":                     {chatPath, `{}`},
		"messages are text":         {chatPath, `{"messages":"user"}`},
		"messages are empty":        {chatPath, `{"messages":[]}`},
		"the assistant's turn":      {chatPath, `{"messages":[{"role":"user"},{"role":"assistant","content":"a"}]}`},
		"two roles":                 {chatPath, `{"messages":[{"role":"user","role":"assistant"}]}`},
		"two roles, turned round":   {chatPath, `{"messages":[{"role":"assistant","role":"user"}]}`},
		"an escaped role":           {chatPath, `{"messages":[{"\u0072ole":"assistant"}]}`},
		"no role":                   {chatPath, `{"messages":[{"content":"user"}]}`},
		"last is no message":        {chatPath, `{"messages":[{"role":"user"},"user"]}`},
		"several prompts":           {textPath, `{"prompt":["a","b"]}`},
		"mixed prompts":             {textPath, `{"prompt":["a",1]}`},
		"nested prompts":            {textPath, `{"prompt":[[1]]}`},
		"no prompts":                {textPath, `{"prompt":[]}`},
		"prompt is an object":       {textPath, `{"prompt":{"prompt_string":"a"}}`},
		"no choices":                {textPath, text + `"n":0}`},
		"many choices":              {textPath, text + `"n":65}`},
		"half a choice":             {textPath, text + `"n":1.5}`},
		"n is text":                 {textPath, text + `"n":"2"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, ok := AsStream(mustParse(t, tc.raw), tc.path); ok {
				t.Errorf("%s streams", tc.raw)
			}
		})
	}
}

func mustParse(t *testing.T, raw string) request.Body {
	t.Helper()
	b, err := request.ParseBody([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzAsStream: a body that streams is JSON as before, streams by any
// reading, and keeps all else.
func FuzzAsStream(f *testing.F) {
	f.Add(`{"model":"a","messages":[{"role":"user","content":"hi"}],"stream":false,"n":2}`, true)
	f.Add(` {"stream" : null, "prompt" : [1] , "model":"\u0061"}`, false)
	f.Add(`{"prompt":"a","\u0073tream":false}`, false)
	f.Fuzz(func(t *testing.T, raw string, isChat bool) {
		b, err := request.ParseBody([]byte(raw))
		if err != nil {
			return
		}
		path := textPath
		if isChat {
			path = chatPath
		}
		s, ok := AsStream(b, path)
		if !ok {
			return
		}
		out, err := io.ReadAll(s.WithModel("another one").Open())
		if err != nil {
			t.Fatal(err)
		}
		again, err := request.ParseBody(out)
		if err != nil || b.Model != "" && again.Model != "another one" {
			t.Fatalf("%v, model %q: %s", err, again.Model, out)
		}
		streams, fields := 0, 0
		gjson.ParseBytes(out).ForEach(func(key, value gjson.Result) bool {
			fields++
			if key.Str == "stream" {
				streams++
				ok = ok && value.Type == gjson.True
			}
			return true
		})
		before := 3
		gjson.Parse(raw).ForEach(func(key, _ gjson.Result) bool {
			if key.Str != "stream" {
				before++
			}
			return true
		})
		if !ok || streams != 1 || fields != before {
			t.Fatalf("%d of %d fields are stream, %d expected: %s", streams, fields, before, out)
		}
		if strings.Replace(string(out), streamingOn, "", 1) == string(out) {
			t.Fatalf("not asked for: %s", out)
		}
	})
}
