package outcome

import (
	"cmp"
	"net/http"
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

// AsError returns the backend's own error as one of llmsup's, for a response whose status was
// already sent. redact removes the backends' keys from a text.
func (a Answer) AsError(redact func(string) string) wire.Error {
	e := wire.Error{Status: a.Forward.Response.Status, Type: wire.TypeServer, Code: string(a.Forward.Reason), Message: a.Forward.ClientMessage() + a.Note}
	if e.Status < http.StatusInternalServerError {
		e.Type = wire.TypeInvalid
	}
	body := a.Body()
	if message := messageOf(body); message.Index > 0 {
		own := gjson.GetBytes(body, "error")
		e.Message, e.Param = message.Str, own.Get("param").Str
		e.Type, e.Code = cmp.Or(own.Get("type").Str, e.Type), cmp.Or(own.Get("code").String(), e.Code)
	}
	e.Message = redact(e.Message)
	return e
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
