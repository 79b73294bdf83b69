package outcome

import (
	"slices"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Body returns the body of the backend's own error, with the note at the end of its message.
// All its bytes stay: clients read the type, the message's first words, and numbers such as
// n_ctx.
func (a Answer) Body() []byte {
	own := a.Forward.Response.Body
	if a.Note == "" {
		return own
	}
	message := messageOf(own)
	end := message.Index + len(message.Raw) - 1 // of the text, without its quotation mark
	note := wire.Quote(a.Note)
	return slices.Concat(own[:end], []byte(note[1:len(note)-1]), own[end:])
}

// messageOf returns the message in an error's body, with its position there; Index 0 = it has
// none.
func messageOf(body []byte) gjson.Result {
	if !wire.ValidJSON(body) {
		return gjson.Result{}
	}
	message := gjson.GetBytes(body, "error.message")
	if message.Type != gjson.String {
		return gjson.Result{}
	}
	return message
}
