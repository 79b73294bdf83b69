package pick

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/request"
)

func callOf(t *testing.T, path, body string) Call {
	t.Helper()
	parsed, err := request.ParseBody([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return CallOf(&request.Request{Path: path, Body: parsed})
}

// The turns of a conversation have one hash, in each dialect, and other conversations have
// another one.
func TestConversation(t *testing.T) {
	type turns struct{ path, first, second, third, other string }
	for name, tc := range map[string]turns{
		"chat completions": {
			"/v1/chat/completions",
			`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"}]}`,
			`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`,
			`{"messages":[{"content":"s","role":"system"},{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"tool","content":"x"},{"role":"assistant","content":"d"},{"role":"user","content":"e"}],"model":"m"}`,
			`{"model":"m","messages":[{"role":"system","content":"sa"},{"role":"user","content":""},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`,
		},
		"messages": {
			"/v1/messages",
			`{"model":"m","system":"s","messages":[{"role":"user","content":"a"}]}`,
			`{"model":"m","system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":[{"type":"text","text":"b"}]},{"role":"user","content":"c"}]}`,
			`{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","input":{}}]},{"role":"user","content":[{"type":"tool_result","content":"x"}]},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"system":"s"}`,
			`{"model":"m","system":"s","messages":[{"role":"user","content":"z"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`,
		},
		"responses": {
			"/v1/responses",
			`{"model":"m","instructions":"s","input":"a"}`,
			`{"model":"m","instructions":"s","input":[{"role":"user","content":"a"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"b"}]},{"role":"user","content":"c"}]}`,
			`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","arguments":"{}"},{"type":"function_call_output","output":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"c"}],"instructions":"s"}`,
			`{"model":"m","instructions":"t","input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := callOf(t, tc.path, tc.first), callOf(t, tc.path, tc.second)
			third, other := callOf(t, tc.path, tc.third), callOf(t, tc.path, tc.other)
			if first.Conversation != 0 || second.Conversation == 0 || third.Conversation != second.Conversation || other.Conversation == second.Conversation {
				t.Errorf("%+v\n%+v\n%+v\n%+v", first, second, third, other)
			}
			if second.Model != "m" || third.Model != "m" {
				t.Errorf("%+v, %+v", second, third)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	text := strings.Repeat("word", 1000)
	image := strings.Repeat("A", 1<<20)
	for name, tc := range map[string]struct {
		path, body      string
		prompt, earlier int
	}{
		"a prompt":     {"/v1/completions", `{"model":"m","prompt":"` + text + `"}`, 1000, 0},
		"a first turn": {"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"` + text + `"}]}`, 1000, 0},
		"two answers": {"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"` + text + `"},{"role":"assistant","content":"` + text +
			`"},{"role":"user","content":"` + text + `"},{"role":"assistant","content":"` + text + `"},{"role":"user","content":"` + text + `"}]}`, 5000, 4000},
		"an image": {"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"` + text +
			`"},{"type":"image_url","image_url":{"url":"data:` + image + `"}}]}]}`, 2000, 0},
		"tools":              {"/v1/chat/completions", `{"model":"m","tools":[{"a":"` + text + `"}],"messages":[]}`, 1000, 0},
		"several inputs":     {"/v1/embeddings", `{"model":"m","input":["` + text + `","` + text + `"]}`, 2000, 0},
		"no messages":        {"/v1/chat/completions", `{"model":"m"}`, 0, 0},
		"messages are a map": {"/v1/chat/completions", `{"model":"m","messages":{"role":"assistant"}}`, 0, 0},
		"odd messages":       {"/v1/chat/completions", `{"model":"m","messages":[1,null,[],{"role":1,"content":{"a":1}}]}`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := callOf(t, tc.path, tc.body)
			if c.PromptTokens < tc.prompt || c.PromptTokens > tc.prompt+10 || c.EarlierTokens < tc.earlier || c.EarlierTokens > tc.earlier+10 {
				t.Errorf("%+v", c)
			}
		})
	}
	form := CallOf(&request.Request{Path: "/v1/audio/transcriptions", Body: request.Body{Form: true, Model: "w"}})
	if form != (Call{Model: "w"}) {
		t.Errorf("%+v", form)
	}
}

func FuzzCallOf(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":[{"text":"a"}]},{"role":"assistant"},{"role":"assistant","content":"b"}]}`))
	f.Add([]byte(`{"input":[{"type":"function_call"},"a"],"instructions":null,"tools":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := request.ParseBody(raw)
		if err != nil {
			return
		}
		c := CallOf(&request.Request{Path: "/v1/chat/completions", Body: body})
		if c.EarlierTokens < 0 || c.EarlierTokens > c.PromptTokens || c.EarlierTokens > 0 && c.Conversation == 0 {
			t.Errorf("%+v", c)
		}
	})
}

func BenchmarkCallOf(b *testing.B) {
	for name, words := range map[string]int{"1 KB": 50, "200 KB": 10_000} {
		text := strings.Repeat("word ", words)
		body, err := request.ParseBody([]byte(`{"model":"m","messages":[{"role":"system","content":"` + text + `"},{"role":"user","content":"` + text +
			`"},{"role":"assistant","content":"` + text + `"},{"role":"user","content":"` + text + `"}]}`))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				CallOf(&request.Request{Path: "/v1/chat/completions", Body: body})
			}
		})
	}
}
