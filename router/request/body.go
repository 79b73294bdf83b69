package request

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Body is the body of a client's request, unchanged, with the position of its model.
type Body struct {
	Raw              []byte        // nil = it is in a file
	Model            string        // the value of the top-level key "model", unescaped
	From, To         int           // Raw[From:To] is that value with its quotes, or null; 0, 0 = there is none
	Form             bool          // it is a form; values in a form have no quotes
	mark             string        // of a form: what precedes each of its fields, and its end
	Stream           bool          // its "stream" is true
	Options          Span          // the value of "stream_options"
	DuplicateOptions bool          // there are two "stream_options"
	Count            int64         // "n": how many answers it asks for; 0 = it does not say
	AddModel         bool          // it names no model, and WithModel adds one
	Choices          []ModelChoice // other models that it names

	UsageRequested bool // it asks for the usage of a stream in OpenRouter's form

	Buffer *Buffer // the memory of Raw; nil = it is not shared

	Fields       models.EngineFields // those that only the engine of a local server knows
	NeededFields []string            // those of them that the answer depends on
}

// Span is a part of a body: Raw[From:To].
type Span struct{ From, To int }

// Text returns a copy of the body.
func (b Body) Text() string { return string(b.Raw) }

// ParseBody reads a JSON object. Its errors are messages for the client. The caller
// rejects a body without a model.
func ParseBody(raw []byte) (Body, error) { return ParseBodyFor(nil, raw) }

// ParseBodyFor is ParseBody, and also finds the fields that only a local server's engine
// knows.
func ParseBodyFor(fields models.EngineFields, raw []byte) (Body, error) {
	b := Body{Raw: raw, Fields: fields}
	var wrong error
	valid := wire.Scan(raw, func(f wire.Member) {
		name := wire.MemberName(raw[f.KeyFrom:f.KeyTo])
		switch string(name) { // of duplicates llama-server reads the last
		case "stream":
			b.Stream = raw[f.From] == 't'
		case "stream_options":
			b.DuplicateOptions = b.Options != Span{}
			b.Options = Span{f.From, f.To}
		case "n":
			b.Count = max(b.Count, wire.LenientNumber(raw[f.From:f.To]))
		case "usage": // OpenRouter's form
			b.UsageRequested = gjson.GetBytes(raw[f.From:f.To], "include").Bool()
		}
		if fields.Needs(string(name), raw[f.From:f.To]) {
			b.NeededFields = append(b.NeededFields, string(name))
		}
		if string(name) != "model" {
			if err := b.addModelChoice(name, raw[f.From:f.To]); wrong == nil {
				wrong = err
			}
			return
		}
		if wrong != nil {
			return
		}
		switch {
		case b.To != 0:
			// Parsers differ in which one they read: the call could be routed by one
			// name, and answered and billed under the other.
			wrong = errors.New("the body has two \"model\" keys; send one")
		case raw[f.From] == 'n', f.To-f.From == len(`""`): // null or "", which llama-server takes for no name
			b.From, b.To = f.From, f.To
		case raw[f.From] != '"':
			wrong = errors.New("\"model\" must be a string")
		default:
			b.Model, b.From, b.To = wire.Unquote(string(raw[f.From:f.To])), f.From, f.To
		}
	})
	if !valid {
		return Body{}, errors.New("the body is not valid JSON")
	}
	if !wire.IsObject(raw) {
		return Body{}, errors.New("the body must be a JSON object, for example {\"model\": \"local\", ...}")
	}
	return b, wrong
}

// WithModel returns the body with another model name, and every other byte unchanged. It
// does not copy a large body.
func (b Body) WithModel(model string) Payload {
	e, changed := b.EditModel(model)
	if b.isInFile() {
		return Payload{net.Buffers{[]byte(e.Text)}, b.Buffer, Span{e.From, e.To}}
	}
	if !changed {
		return b.Payload(b.Raw)
	}
	return b.Payload(b.Raw[:e.From], []byte(e.Text), b.Raw[e.To:])
}

// EditModel returns the edit of the body that WithModel makes; false if there is nothing to
// change.
func (b Body) EditModel(model string) (e wire.Edit, changed bool) {
	switch {
	case b.To != 0 && model != b.Model && b.Form:
		return wire.Edit{From: b.From, To: b.To, Text: model}, true
	case b.To != 0 && (model != b.Model || b.AddModel):
		return wire.Edit{From: b.From, To: b.To, Text: wire.Quote(model)}, true
	case b.To != 0 || !b.AddModel:
		return e, false
	case b.Form:
		return wire.Edit{Text: fmt.Sprintf("%s\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n%s\r\n", b.mark, model)}, true
	}
	at, comma := bytes.IndexByte(b.Raw, '{')+1, ","
	if rest := bytes.TrimLeft(b.Raw[at:], " \t\r\n"); rest[0] == '}' {
		comma = ""
	}
	return wire.Edit{From: at, To: at, Text: `"model":` + wire.Quote(model) + comma}, true
}

// Payload returns the payload of parts of the body and of what is inserted between them.
func (b Body) Payload(parts ...[]byte) Payload {
	if len(b.Raw) <= maxCopied {
		return Payload{Parts: net.Buffers{bytes.Join(parts, nil)}}
	}
	return Payload{Parts: parts, from: b.Buffer}
}

// maxCopied is the size, in bytes, up to which copying a body costs less than a system
// call: net/http sends a body that it knows to be in memory together with the headers.
const maxCopied = 16 << 10
