package backend

import (
	"testing"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// TestSlotsFor: what a call takes at a time, as seen at llama-server.
func TestSlotsFor(t *testing.T) {
	const chat, text = "/v1/chat/completions", "/v1/completions"
	for name, tc := range map[string]struct {
		path, body string
		want       int
	}{
		"one":             {chat, `{"messages":[]}`, 1},
		"choices":         {chat, `{"n":3}`, 3},
		"a float":         {chat, `{"n":3.0}`, 3},
		"null":            {chat, `{"n":null}`, 1},
		"nonsense":        {chat, `{"n":-1e400}`, 1},
		"too many":        {chat, `{"n":1e400}`, aggregate.MaxChoices},
		"a nested n":      {chat, `{"messages":[{"n":4}]}`, 1},
		"of responses":    {"/v1/responses", `{"n":2}`, 2},
		"not of messages": {"/v1/messages", `{"n":2}`, 1},
		"a prompt":        {text, `{"prompt":"1"}`, 1},
		"tokens":          {text, `{"prompt":[1,2,3]}`, 1},
		"mixed":           {text, `{"prompt":[1,"a",3]}`, 1},
		"prompts":         {text, `{"prompt":["a","b"]}`, 2},
		"token lists":     {text, `{"prompt":[[1],[2,3]]}`, 2},
		"no prompts":      {text, `{"prompt":[]}`, 1},
		"both":            {text, `{"n":2,"prompt":["a","b"]}`, 4},
		"texts to embed":  {"/v1/embeddings", `{"n":9,"input":["a","b","c"]}`, 3},
		"to rank":         {"/v1/rerank", `{"documents":["a","b"]}`, 2},
		"to tokenize":     {"/tokenize", `{"content":"a"}`, 0},
		"its own prompts": {"/completion", `{"prompt":["a","b"]}`, 2},
	} {
		body, err := request.ParseBody([]byte(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		if got := slotsFor(&request.Request{Path: tc.path, Body: body}, llamacpp.Engine{}.Capabilities(nil).Slots); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}
