package backend

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
)

// slotless are the endpoints that llama-server answers without one of its slots.
var slotless = map[string]bool{
	"/tokenize": true, "/detokenize": true, "/apply-template": true, "/v1/messages/count_tokens": true,
}

// lists are the fields of a body that make a task of llama-server's of each of
// their elements, by the endpoint.
var lists = map[string]string{"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/rerank": "documents"}

// choiceless are the endpoints that pass over the number of choices.
var choiceless = map[string]bool{"/v1/messages": true, "/v1/embeddings": true, "/v1/rerank": true}

// slotsFor returns how many slots a call takes at the same time, if there are as
// many. llama-server makes a task of each choice, and begins with none of them
// before it has a slot for all; and one of each prompt. Seen with build 11669.
func slotsFor(r *request.Request) int {
	n := 1
	if !choiceless[r.Path] && bytes.Contains(r.Body.Raw, []byte(`"n"`)) { // cheaper than to parse a body that has none
		n = int(min(max(gjson.GetBytes(r.Body.Raw, "n").Int(), 1), aggregate.MaxChoices))
	}
	if field := lists[r.Path]; field != "" {
		n *= min(max(tasks(gjson.GetBytes(r.Body.Raw, field)), 1), aggregate.MaxChoices)
	}
	return n
}

// tasks counts the elements of a list that are a task each. A list of tokens, or
// one of tokens and texts, is one prompt.
func tasks(list gjson.Result) int {
	if !list.IsArray() {
		return 1
	}
	n, tokens := 0, false
	list.ForEach(func(_, element gjson.Result) bool {
		tokens = tokens || element.Type == gjson.Number
		n++
		return true
	})
	if tokens {
		return 1
	}
	return n
}
