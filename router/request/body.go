package request

import (
	"bytes"
	"errors"
	"net"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// Body is a client's request body, as it came, with the place of its model.
type Body struct {
	Raw              []byte
	Model            string        // the value of the top-level key "model", unescaped
	From, To         int           // raw[from:to] is that value with its quotes; 0,0 where there is none
	Form             bool          // it is a form, whose values have no quotes
	Stream           bool          // its "stream" is true
	Options          Span          // the value of "stream_options"
	DuplicateOptions bool          // there are two of them
	Choices          []ModelChoice // models that it names beside its own

	UsageRequested bool // its client asks for the usage of a stream, in OpenRouter's way

	Buffer *Buffer // that raw lies in; nil = in memory of its own

	LlamaFields []string // that it depends on, and only llama-server knows
}

// Span is a piece of a body: raw[from:to].
type Span struct{ From, To int }

// Text is a copy of the body.
func (b Body) Text() string { return string(b.Raw) }

// ParseBody finds the model in a JSON object. Its errors are sentences for the
// client. A body without a model is left to the caller to refuse.
func ParseBody(raw []byte) (Body, error) {
	b := Body{Raw: raw}
	var wrong error
	valid := wire.Scan(raw, func(f wire.Member) {
		name := wire.MemberName(raw[f.KeyFrom:f.KeyTo])
		switch string(name) { // of one that is there twice llama-server reads the last
		case "stream":
			b.Stream = raw[f.From] == 't'
		case "stream_options":
			b.DuplicateOptions = b.Options != Span{}
			b.Options = Span{f.From, f.To}
		case "usage": // OpenRouter's own way to ask for it
			b.UsageRequested = gjson.GetBytes(raw[f.From:f.To], "include").Bool()
		}
		b.noteLlamaField(name, raw[f.From:f.To])
		if string(name) != "model" {
			if err := b.readChoice(name, raw[f.From:f.To]); wrong == nil {
				wrong = err
			}
			return
		}
		if wrong != nil {
			return
		}
		switch {
		case b.To != 0:
			// Parsers differ in which one they take, so the call could be
			// routed by one name and answered, and billed, under the other.
			wrong = errors.New("the body has two \"model\" keys; send one")
		case raw[f.From] != '"':
			wrong = errors.New("\"model\" has to be a string")
		case f.To-f.From == len(`""`):
			wrong = errNoModel
		default:
			b.Model, b.From, b.To = wire.Unquote(string(raw[f.From:f.To])), f.From, f.To
		}
	})
	if !valid {
		return Body{}, errors.New("the body is not valid JSON")
	}
	if !wire.IsObject(raw) {
		return Body{}, errors.New("the body has to be a JSON object, as in {\"model\": \"local\", ...}")
	}
	return b, wrong
}

// WithModel returns the body with another model name in it, and not a byte
// else changed. A large body is not copied.
func (b Body) WithModel(model string) Payload {
	if b.To == 0 || model == b.Model {
		return b.Payload(b.Raw)
	}
	written := model
	if !b.Form {
		written = wire.Quote(model)
	}
	return b.Payload(b.Raw[:b.From], []byte(written), b.Raw[b.To:])
}

// Payload is parts of the body, and what else is put between them.
func (b Body) Payload(parts ...[]byte) Payload {
	if len(b.Raw) <= joinBelow {
		return Payload{Parts: net.Buffers{bytes.Join(parts, nil)}}
	}
	return Payload{parts, b.Buffer}
}

// joinBelow is the size of a body, in bytes, up to which a copy costs less than a
// system call: net/http sends one that it knows to be in memory along with its
// head.
const joinBelow = 16 << 10
