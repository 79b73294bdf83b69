package resume

import (
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// PartialAnswer is what a local server had generated of an answer without a stream when
// it broke off: its text and tokens, of which the client has received nothing. For a
// stream, see Transcript.
type PartialAnswer struct {
	Text   string
	Tokens int64
}

// answerFields are gjson paths in a complete answer: its text, the number of its parts,
// its finish reason and its usage.
type answerFields struct{ text, parts, finish, completion, prompt string }

// join inserts the partial answer before the text of an answer that continues it, unless
// that repeats it, and moves its tokens from the prompt to the completion.
func (f answerFields) join(body string, p PartialAnswer) (string, bool) {
	answer := gjson.Parse(body)
	text := answer.Get(f.text)
	isText := text.Type == gjson.String || text.Type == gjson.Null && text.Index > 0 // null beside a tool call
	if !isText || answer.Get(f.parts).Int() != 1 {
		return "", false
	}
	overlap := NewOverlapFilter(p.Text)
	joined := p.Text + overlap.Filter(text.Str) + overlap.Flush(answer.Get(f.finish).Str)
	changes := []wire.Edit{{From: text.Index, To: text.Index + len(text.Raw), Text: wire.Quote(joined)}}
	for field, more := range map[string]int64{f.completion: p.Tokens, f.prompt: -p.Tokens} {
		if n := answer.Get(field); n.Type == gjson.Number {
			changes = append(changes, wire.Edit{From: n.Index, To: n.Index + len(n.Raw), Text: strconv.FormatInt(max(n.Int()+more, 0), 10)})
		}
	}
	return wire.Apply(body, changes), true
}
