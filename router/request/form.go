package request

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/llmsup/llmsup/router/wire"
)

// MaxParts is the highest number of fields of a form.
const MaxParts = 1000

var (
	// ErrForm is the error of a body that is not a valid form.
	ErrForm      = errors.New("the body is not valid multipart/form-data")
	errFormModel = errors.New("the field \"model\" must be plain text")
	errModels    = errors.New("the body has two \"model\" fields; send one")
	errNoModel   = errors.New("\"model\" is empty; GET /v1/models lists the names")

	validBoundary = regexp.MustCompile(`^[0-9A-Za-z'()+_,./:=?-]{1,70}$`)
	// extendedParam finds a parameter in the form of RFC 2231, which some parsers read
	// and others ignore.
	extendedParam = regexp.MustCompile(`(?i)(^|[;\s])(name|boundary)\*`)
)

// IsForm returns whether the headers announce a form.
func IsForm(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/form-data")
}

// ParseForm reads the model of a form. It rejects what two parsers could read in two
// ways, so that no call is routed by one name, and answered and billed under another.
// Its errors are messages for the client.
// Source: RFC 7578 and RFC 2046, 5.1.
func ParseForm(raw []byte, h http.Header) (Body, error) {
	b, err := parseForm(bytes.NewReader(raw), h)
	if err != nil {
		return Body{}, err
	}
	b.Raw = raw
	return b, nil
}

// parseForm is ParseForm for a form that need not be in memory.
func parseForm(r io.Reader, h http.Header) (Body, error) {
	_, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || len(h["Content-Type"]) != 1 || extendedParam.MatchString(h.Get("Content-Type")) || !validBoundary.MatchString(params["boundary"]) {
		return Body{}, ErrForm
	}
	b := Body{Form: true, mark: "--" + params["boundary"]}
	parts := newPartReader(r, b.mark)
	for range MaxParts {
		p, last, err := parts.next()
		if err != nil {
			return Body{}, err
		}
		if last {
			return b, nil
		}
		if err := b.addPart(p); err != nil {
			return Body{}, err
		}
	}
	return Body{}, ErrForm
}

// addPart reads a part of a form.
func (b *Body) addPart(p part) error {
	head, value, ok := bytes.Cut(p.begin, []byte("\r\n\r\n"))
	f, err := readField(string(head))
	whole := len(p.begin) == p.length
	switch {
	case !ok || err != nil:
		return ErrForm
	case f.name != "model" && strings.EqualFold(f.name, "model"):
		return fmt.Errorf("the form has the field %s; write \"model\" in lower case, once", wire.Quote(f.name))
	case f.name == "stream":
		b.Stream = string(value) == "true"
	case f.name == "n":
		b.Count, _ = strconv.ParseInt(strings.TrimSpace(string(value)), 10, 32)
	case f.name != "model":
	case b.To != 0:
		return errModels
	case !f.plain || !whole:
		return errFormModel
	case len(value) == 0:
		return errNoModel
	default:
		b.To = p.at + p.length
		b.Model, b.From = string(value), b.To-len(value)
	}
	return nil
}

// field is a form field by its headers.
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
			return f, ErrForm
		}
		switch strings.ToLower(key) {
		case "content-disposition":
			kind, params, err := mime.ParseMediaType(value)
			if err != nil || kind != "form-data" || named || extendedParam.MatchString(value) {
				return f, ErrForm
			}
			if f.name, named = params["name"]; !named {
				return f, ErrForm
			}
			if _, file := params["filename"]; file {
				f.plain = false
			}
		case "content-transfer-encoding":
			f.plain = false
		}
	}
	if !named {
		return f, ErrForm
	}
	return f, nil
}
