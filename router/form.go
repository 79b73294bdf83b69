package router

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/llmsup/llmsup/router/wire"
)

// maxParts is how many fields a form may have.
const maxParts = 1000

var (
	errForm      = errors.New("the body is not valid multipart/form-data")
	errFormModel = errors.New("the field \"model\" has to be plain text")
	errModels    = errors.New("the body has two \"model\" fields; send one")
	errNoModel   = errors.New("\"model\" is empty; GET /v1/models lists the names")

	goodBoundary = regexp.MustCompile(`^[0-9A-Za-z'()+_,./:=?-]{1,70}$`)
	// extended finds a parameter in the form of RFC 2231, which some parsers
	// know and others pass over.
	extended = regexp.MustCompile(`(?i)(^|[;\s])(name|boundary)\*`)
)

// isForm says whether a body is a form.
func isForm(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/form-data")
}

// parseForm finds the model in a form. It is stricter than other parsers:
// whatever two of them could read in two ways is refused, so that no call is
// routed by one name and answered, and billed, under another. Its errors are
// sentences for the client.
// Source: RFC 7578 and RFC 2046, 5.1.
func parseForm(raw []byte, h http.Header) (body, error) {
	_, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || len(h["Content-Type"]) != 1 || extended.MatchString(h.Get("Content-Type")) || !goodBoundary.MatchString(params["boundary"]) {
		return body{}, errForm
	}
	mark := []byte("--" + params["boundary"])
	b := body{raw: raw, form: true}
	at := len(mark) + len("\r\n")
	if !bytes.HasPrefix(raw, append(slices.Clone(mark), "\r\n"...)) {
		return body{}, errForm
	}
	next := append([]byte("\r\n"), mark...)
	for range maxParts {
		length := bytes.Index(raw[at:], next)
		if length < 0 {
			return body{}, errForm
		}
		head, value, ok := bytes.Cut(raw[at:at+length], []byte("\r\n\r\n"))
		f, err := readField(string(head))
		switch {
		case !ok || err != nil:
			return body{}, errForm
		case f.name != "model" && strings.EqualFold(f.name, "model"):
			return body{}, fmt.Errorf("the form has the field %s; write \"model\" in lower case, once", wire.Quote(f.name))
		case f.name != "model":
		case b.to != 0:
			return body{}, errModels
		case !f.plain:
			return body{}, errFormModel
		case len(value) == 0:
			return body{}, errNoModel
		default:
			b.model, b.from, b.to = string(value), at+length-len(value), at+length
		}
		at += length + len("\r\n") + len(mark)
		switch rest := raw[at:]; {
		case bytes.HasPrefix(rest, []byte("\r\n")):
			at += len("\r\n")
		case string(rest) == "--", string(rest) == "--\r\n":
			return b, nil
		default:
			return body{}, errForm
		}
	}
	return body{}, errForm
}

// field is what the headers of a form's part say of it.
type field struct {
	name  string
	plain bool // neither a file nor encoded
}

func readField(head string) (field, error) {
	f := field{plain: true}
	named := false
	for line := range strings.SplitSeq(head, "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if !ok || !httpguts.ValidHeaderFieldName(key) || !httpguts.ValidHeaderFieldValue(value) {
			return f, errForm
		}
		switch strings.ToLower(key) {
		case "content-disposition":
			kind, params, err := mime.ParseMediaType(value)
			if err != nil || kind != "form-data" || named || extended.MatchString(value) {
				return f, errForm
			}
			if f.name, named = params["name"]; !named {
				return f, errForm
			}
			if _, file := params["filename"]; file {
				f.plain = false
			}
		case "content-transfer-encoding":
			f.plain = false
		}
	}
	if !named {
		return f, errForm
	}
	return f, nil
}
