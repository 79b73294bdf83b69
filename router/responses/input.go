package responses

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// TypedInput returns a request whose input has "type":"message" in each message of the
// assistant that lacks a type; ok is false if none does. OpenAI's schema does not require
// the type, and the AI SDK omits it; llama-server (build 11669) answers 400 without it.
func TypedInput(request []byte) (typed []byte, ok bool) {
	if !bytes.Contains(request, []byte(`"assistant"`)) {
		return nil, false
	}
	from, to := 0, 0
	wire.Scan(request, func(m wire.Member) { // of duplicates llama-server reads the last
		if string(wire.MemberName(request[m.KeyFrom:m.KeyTo])) == "input" {
			from, to = m.From, m.To
		}
	})
	input := gjson.ParseBytes(request[from:to])
	if !input.IsArray() {
		return nil, false
	}
	var changes []wire.Edit
	input.ForEach(func(_, item gjson.Result) bool {
		if item.Get("role").Str == "assistant" && !item.Get("type").Exists() {
			at := from + item.Index + 1
			changes = append(changes, wire.Edit{From: at, To: at, Text: `"type":"message",`})
		}
		return true
	})
	if len(changes) == 0 {
		return nil, false
	}
	return []byte(wire.Apply(string(request), changes)), true
}
