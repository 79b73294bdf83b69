package router

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// body is a client's request body, as it came, with the place of its model.
type body struct {
	raw      string
	model    string // the value of the top-level key "model", unescaped
	from, to int    // raw[from:to] is that value with its quotes; 0,0 where there is none
	form     bool   // it is a form, whose values have no quotes
}

// parseBody finds the model in a JSON object. Its errors are sentences for the
// client. A body without a model is left to the caller to refuse.
func parseBody(raw string) (body, error) {
	b := body{raw: raw}
	var wrong error
	valid := scan(raw, func(f member) {
		// Unescaped: "\u006dodel" is the same key to every parser.
		if wrong != nil || unquote(raw[f.keyFrom:f.keyTo]) != "model" {
			return
		}
		switch {
		case b.to != 0:
			// Parsers differ in which one they take, so the call could be
			// routed by one name and answered, and billed, under the other.
			wrong = errors.New("the body has two \"model\" keys; send one")
		case raw[f.from] != '"':
			wrong = errors.New("\"model\" has to be a string")
		case f.to-f.from == len(`""`):
			wrong = errNoModel
		default:
			b.model, b.from, b.to = unquote(raw[f.from:f.to]), f.from, f.to
		}
	})
	if !valid {
		return body{}, errors.New("the body is not valid JSON")
	}
	if !strings.HasPrefix(strings.TrimLeft(raw, " \n\t\r"), "{") {
		return body{}, errors.New("the body has to be a JSON object, as in {\"model\": \"local\", ...}")
	}
	return b, wrong
}

func validJSON(text string) bool { return scan(text, nil) }

// unquote reads a JSON string.
func unquote(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s[1 : len(s)-1]
	}
	return gjson.Parse(s).Str
}

// withModel returns the body with another model name in it, and not a byte
// else changed. A large body is not copied.
func (b body) withModel(model string) payload {
	if b.to == 0 || model == b.model {
		return payload{b.raw}
	}
	written := model
	if !b.form {
		written = quote(model)
	}
	p := payload{b.raw[:b.from], written, b.raw[b.to:]}
	if len(b.raw) <= joinBelow {
		return payload{strings.Join(p, "")}
	}
	return p
}

// joinBelow is the size of a body, in bytes, up to which a copy costs less than a
// system call: net/http sends a body that is one string along with its head.
const joinBelow = 16 << 10

// quote writes a JSON string. strconv's Quote would escape as Go does.
func quote(s string) string {
	out, err := json.Marshal(s)
	if err != nil { // can't be: every string can be marshalled
		return strconv.Quote(s)
	}
	return string(out)
}

// payload is what is sent as a request's body: its parts one after another.
type payload []string

func (p payload) size() int64 {
	var n int64
	for _, part := range p {
		n += int64(len(part))
	}
	return n
}

func (p payload) reader() io.Reader {
	if len(p) == 1 {
		return strings.NewReader(p[0]) // a type that net/http knows to be in memory
	}
	return &partsReader{parts: slices.Clone(p), left: int(p.size())}
}

func (p payload) getBody() (io.ReadCloser, error) { return io.NopCloser(p.reader()), nil }
func (p payload) open() (io.Reader, error)        { return p.reader(), nil }

// partsReader reads parts one after another. It fills what it is given, since
// net/http writes each piece to the network as it comes. Its Len tells
// retryablehttp how much is to come (its LenReader), so that the request is sent
// with a Content-Length instead of in chunks.
type partsReader struct {
	parts []string
	left  int
}

func (r *partsReader) Len() int { return r.left }

func (r *partsReader) Read(b []byte) (n int, err error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	for n < len(b) && r.left > 0 {
		m := copy(b[n:], r.parts[0])
		n += m
		r.left -= m
		if r.parts[0] = r.parts[0][m:]; r.parts[0] == "" {
			r.parts = r.parts[1:]
		}
	}
	return n, nil
}
