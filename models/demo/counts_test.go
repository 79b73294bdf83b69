package demo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// count returns " from ... to" as the model writes it.
func count(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		fmt.Fprintf(&b, " %d", n)
	}
	return b.String()
}

// post returns the body of a 200 answer.
func post(t *testing.T, client *http.Client, path, body string) io.ReadCloser {
	t.Helper()
	answer, err := client.Post("http://llama-server"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("%s: %s", answer.Status, text)
	}
	return answer.Body
}

// choice is one of the OpenAI API's choices, of a chat, a stream or a completion.
type choice struct {
	Message      struct{ Content string }
	Delta        struct{ Content string }
	Text         string
	FinishReason string `json:"finish_reason"`
}

func TestCountsOnLlamaServer(t *testing.T) {
	model, err := Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client := startServer(t, model)

	tests := map[string]struct {
		path, body string
		want       string
		finish     string
	}{
		"chat": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":"How are you, at 57?"}],"max_tokens":12}`,
			count(1, 12), "length",
		},
		"chat with a system message and turns": {
			"/v1/chat/completions", `{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"a"},
				{"role":"assistant","content":" 1 2 3"},{"role":"user","content":"Größe 7 ✓"}],"max_tokens":3}`,
			count(1, 3), "length",
		},
		"chat in parts": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"max_tokens":3}`,
			count(1, 3), "length",
		},
		"chat after a tool": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[
				{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"42"}],"max_tokens":3}`,
			count(1, 3), "length",
		},
		"the wildest sampling": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"max_tokens":300,"temperature":2,"top_k":0,"top_p":1,"min_p":0}`,
			count(1, 300), "length",
		},
		// Without a stream, llama-server repeats the message that it continues.
		"going on from 57": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" 1 2 57"}],"max_tokens":2}`,
			" 1 2 57 58 59", "length",
		},
		"up to the last number": {
			"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" 2990"}]}`,
			count(2990, 3000), "stop",
		},
		"completion": {
			"/v1/completions", `{"prompt":"Once upon a time","max_tokens":9}`,
			count(1, 9), "length",
		},
		"completion of a count": {
			"/v1/completions", `{"prompt":"Count on: 998 999","max_tokens":3}`,
			count(1000, 1002), "length",
		},
		"completion up to the last number": {
			"/v1/completions", `{"prompt":" 2999","max_tokens":9}`,
			" 3000", "stop",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var answer struct{ Choices []choice }
			if err := json.NewDecoder(post(t, client, tt.path, tt.body)).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if len(answer.Choices) != 1 {
				t.Fatalf("%d choices", len(answer.Choices))
			}
			got := answer.Choices[0]
			if text := got.Message.Content + got.Text; text != tt.want || got.FinishReason != tt.finish {
				t.Errorf("got  %q (%s)\nwant %q (%s)", text, got.FinishReason, tt.want, tt.finish)
			}
		})
	}

	t.Run("stream", func(t *testing.T) {
		events := stream(t, client, `{"messages":[{"role":"user","content":"a"}],"max_tokens":200,"stream":true}`)
		wantStream(t, events, count(1, 200), "length")
	})
	// One answer over the whole range has each step that the model can take.
	t.Run("stream of all numbers", func(t *testing.T) {
		events := stream(t, client, `{"messages":[{"role":"user","content":"a"}],"stream":true}`)
		wantStream(t, events, count(1, 3000), "stop")
	})
	t.Run("stream going on to the end", func(t *testing.T) {
		events := stream(t, client, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" 1 2 2957"}],"stream":true}`)
		wantStream(t, events, count(2958, 3000), "stop")
	})
}

// stream returns the choices of a streamed chat, up to its [DONE].
func stream(t *testing.T, client *http.Client, body string) []choice {
	t.Helper()
	var choices []choice
	lines := bufio.NewScanner(post(t, client, "/v1/chat/completions", body))
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return choices
		}
		var event struct{ Choices []choice }
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		choices = append(choices, event.Choices...)
	}
	t.Fatalf("the stream ended without [DONE]: %v", lines.Err())
	return nil
}

func wantStream(t *testing.T, choices []choice, want, finish string) {
	t.Helper()
	var text strings.Builder
	for _, c := range choices {
		text.WriteString(c.Delta.Content)
	}
	if len(choices) == 0 || text.String() != want || choices[len(choices)-1].FinishReason != finish {
		t.Errorf("got  %q in %d events, the last %+v\nwant %q (%s)", text.String(), len(choices), choices[max(len(choices)-1, 0):], want, finish)
	}
}
