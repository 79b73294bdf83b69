package router

import (
	"bytes"
	"errors"
	"net"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// body is a client's request body, as it came, with the place of its model.
type body struct {
	raw      []byte
	model    string        // the value of the top-level key "model", unescaped
	from, to int           // raw[from:to] is that value with its quotes; 0,0 where there is none
	form     bool          // it is a form, whose values have no quotes
	stream   bool          // its "stream" is true
	options  span          // the value of "stream_options"
	twice    bool          // there are two of them
	choices  []modelChoice // models that it names beside its own

	usageAsked bool // its client asks for the usage of a stream, in OpenRouter's way

	buffer *buffer // that raw lies in; nil = in memory of its own

	llamaFields []string // that it depends on, and only llama-server knows
}

// span is a piece of a body: raw[from:to].
type span struct{ from, to int }

// text is a copy of the body.
func (b body) text() string { return string(b.raw) }

// parseBody finds the model in a JSON object. Its errors are sentences for the
// client. A body without a model is left to the caller to refuse.
func parseBody(raw []byte) (body, error) {
	b := body{raw: raw}
	var wrong error
	valid := wire.Scan(raw, func(f wire.Member) {
		name := wire.NameOf(raw[f.KeyFrom:f.KeyTo])
		switch string(name) { // of one that is there twice llama-server reads the last
		case "stream":
			b.stream = raw[f.From] == 't'
		case "stream_options":
			b.twice = b.options != span{}
			b.options = span{f.From, f.To}
		case "usage": // OpenRouter's own way to ask for it
			b.usageAsked = gjson.GetBytes(raw[f.From:f.To], "include").Bool()
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
		case b.to != 0:
			// Parsers differ in which one they take, so the call could be
			// routed by one name and answered, and billed, under the other.
			wrong = errors.New("the body has two \"model\" keys; send one")
		case raw[f.From] != '"':
			wrong = errors.New("\"model\" has to be a string")
		case f.To-f.From == len(`""`):
			wrong = errNoModel
		default:
			b.model, b.from, b.to = wire.Unquote(string(raw[f.From:f.To])), f.From, f.To
		}
	})
	if !valid {
		return body{}, errors.New("the body is not valid JSON")
	}
	if !wire.IsObject(raw) {
		return body{}, errors.New("the body has to be a JSON object, as in {\"model\": \"local\", ...}")
	}
	return b, wrong
}

// withModel returns the body with another model name in it, and not a byte
// else changed. A large body is not copied.
func (b body) withModel(model string) payload {
	if b.to == 0 || model == b.model {
		return b.payload(b.raw)
	}
	written := model
	if !b.form {
		written = wire.Quote(model)
	}
	return b.payload(b.raw[:b.from], []byte(written), b.raw[b.to:])
}

// payload is parts of the body, and what else is put between them.
func (b body) payload(parts ...[]byte) payload {
	if len(b.raw) <= joinBelow {
		return payload{parts: net.Buffers{bytes.Join(parts, nil)}}
	}
	return payload{parts, b.buffer}
}

// joinBelow is the size of a body, in bytes, up to which a copy costs less than a
// system call: net/http sends one that it knows to be in memory along with its
// head.
const joinBelow = 16 << 10
