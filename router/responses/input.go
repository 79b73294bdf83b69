package responses

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// CompleteInput returns a request whose input has what llama-server (build 11669) requires and
// OpenAI's schema does not; ok is false if nothing is missing. llama-server answers 400 to
//
//   - an assistant's message without "type":"message", as the AI SDK sends it;
//   - a reasoning item without a text, as the AI SDK sends it, and Codex if the reasoning is
//     encrypted. It gets an empty text.
func CompleteInput(request []byte) (completed []byte, ok bool) {
	if !bytes.Contains(request, []byte(`"assistant"`)) && !bytes.Contains(request, []byte(`"reasoning"`)) {
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
		if item.IsObject() {
			if e, ok := missingInput(item); ok {
				changes = append(changes, wire.Edit{From: from + item.Index + e.From, To: from + item.Index + e.To, Text: e.Text})
			}
		}
		return true
	})
	if len(changes) == 0 {
		return nil, false
	}
	return []byte(wire.Apply(string(request), changes)), true
}

const emptyReasoning = `[{"type":"reasoning_text","text":""}]`

// missingInput returns the change that an input item needs, by its own offsets; ok is false if
// it needs none.
func missingInput(item gjson.Result) (e wire.Edit, ok bool) {
	switch kind := item.Get("type"); {
	case !kind.Exists() && item.Get("role").Str == "assistant":
		return wire.Edit{From: 1, To: 1, Text: `"type":"message",`}, true
	case kind.Str == "reasoning" && !item.Get("content").Exists():
		return wire.Edit{From: 1, To: 1, Text: `"content":` + emptyReasoning + `,`}, true
	case kind.Str == "reasoning" && item.Get("content").Type == gjson.Null:
		at := item.Get("content").Index - item.Index
		return wire.Edit{From: at, To: at + len("null"), Text: emptyReasoning}, true
	}
	return e, false
}
