package request

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// ParseForm rejects forms that two parsers could read in two ways.
func TestAmbiguousForms(t *testing.T) {
	const good = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nlocal\r\n--b--\r\n"
	if got, err := ParseForm([]byte(good), http.Header{"Content-Type": {"Multipart/Form-Data; boundary=b"}}); err != nil || got.Model != "local" || good[got.From:got.To] != "local" {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, tc := range map[string]struct{ contentType, was, is string }{
		"no boundary":              {"multipart/form-data", "", ""},
		"boundary in another form": {"multipart/form-data; boundary*=utf-8''b", "", ""},
		"two boundaries":           {"multipart/form-data; boundary=b; boundary=c", "", ""},
		"odd boundary":             {"multipart/form-data; boundary=\"b\xff\"", "", ""},
		"a preamble":               {"", "--b\r\nC", "x\r\n--b\r\nC"},
		"an epilogue":              {"", "--b--\r\n", "--b--\r\n--b\r\n"},
		"no end":                   {"", "\r\n--b--\r\n", ""},
		"cut in the end":           {"", "--b--\r\n", "--b-"},
		"line feeds":               {"", "\r\n", "\n"},
		"a longer boundary":        {"", "local", "local\r\n--bb\r\nx"},
		"white space behind one":   {"", "--b\r\nC", "--b \r\nC"},
		"no headers":               {"", "Content-Disposition: form-data; name=\"model\"", ""},
		"no name":                  {"", "; name=\"model\"", ""},
		"another name":             {"", "; name=\"model\"", "; name=\"x\"; name*=utf-8''model"},
		"two names":                {"", "; name=\"model\"", "; name=\"x\"; name=\"model\""},
		"two dispositions":         {"", "\r\n\r\nlocal", "\r\nContent-Disposition: form-data; name=x\r\n\r\nlocal"},
		"a folded header":          {"", "; name", ";\r\n name"},
		"a space before the colon": {"", "Disposition:", "Disposition :"},
		"a line feed in a header":  {"", "Content-D", "X: y\nContent-D"},
		"a control character":      {"", "Content-D", "X: \b\r\nContent-D"},
		"no header's name":         {"", "Content-D", "X(: y\r\nContent-D"},
		"encoded":                  {"", "\r\n\r\nlocal", "\r\nContent-Transfer-Encoding: base64\r\n\r\nbG9jYWw="},
		"not a form's part":        {"", "form-data;", "attachment;"},
	} {
		h := http.Header{"Content-Type": {cmp.Or(tc.contentType, "multipart/form-data; boundary=b")}}
		if got, err := ParseForm([]byte(strings.ReplaceAll(good, cmp.Or(tc.was, "\x00"), tc.is)), h); err == nil {
			t.Errorf("%s: it is read as %+v", name, got)
		}
	}
	if _, err := ParseForm([]byte(good), http.Header{"Content-Type": {"multipart/form-data; boundary=b", "text/plain"}}); err == nil {
		t.Error("two content types are accepted")
	}
	if _, err := ParseForm([]byte(strings.Repeat("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n", MaxParts+1)+good), http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}); !errors.Is(err, ErrForm) {
		t.Errorf("too many parts: %v", err)
	}
}

// FuzzForm reads any form: the standard library reads the same model, and WithModel changes
// nothing but the model.
func FuzzForm(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nlocal\r\n--b\r\n"+
		"Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\x00\r\n--\r\n\xff\r\n--b--\r\n", "b")
	f.Add("--b\r\ncontent-disposition:form-data;name=model\r\nX: y\r\n\r\nlocal\r\n--b--", "b")
	f.Fuzz(func(t *testing.T, text, boundary string) {
		b, err := ParseForm([]byte(text), http.Header{"Content-Type": {"multipart/form-data; boundary=\"" + boundary + "\""}})
		if err != nil {
			return
		}
		read := func(text string) string {
			var models []string
			for r := multipart.NewReader(strings.NewReader(text), boundary); ; {
				p, err := r.NextRawPart()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				if value, _ := io.ReadAll(p); p.FormName() == "model" {
					models = append(models, string(value))
				}
			}
			return strings.Join(models, " and ")
		}
		if got := read(text); got != b.Model {
			t.Errorf("%q: %q, the standard library reads %q", text, b.Model, got)
		}
		if b.To == 0 {
			return
		}
		if other := string(bytes.Join(b.WithModel("another").Parts, nil)); read(other) != "another" || len(other)-len("another") != len(text)-len(b.Model) {
			t.Errorf("%q became %q", text, other)
		}
	})
}
