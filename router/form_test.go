package router

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// formPart is a field of a form; a file where it has a name of one.
type formPart struct{ name, file, value string }

func form(t testing.TB, parts ...formPart) (text, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		create := func() (io.Writer, error) { return w.CreateFormField(p.name) }
		if p.file != "" {
			create = func() (io.Writer, error) { return w.CreateFormFile(p.name, p.file) }
		}
		field, err := create()
		if err == nil {
			_, err = io.WriteString(field, p.value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

const sound = "RIFF\x00\x00\r\n--\r\n\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\xff"

// TestTranscription: a form goes where its model says, with nothing else of it
// changed, and to the fallback where the local server can't.
func TestTranscription(t *testing.T) {
	b := newBench(t, status(501, `{"error":{"message":"This model does not support audio input","type":"not_supported_error"}}`), status(200, " 1 2 3\n", "Content-Type", "text/plain"))
	for _, path := range []string{"/v1/audio/transcriptions", "/v1/audio/translations"} {
		for name, parts := range map[string][]formPart{
			"model first": {{"model", "", "local/qwen"}, {"file", "a \"b\".wav", sound}, {"response_format", "", "text"}},
			"model last":  {{"file", "ü.wav", sound}, {"language", "", "de"}, {"model", "", "local/qwen"}},
		} {
			text, contentType := form(t, parts...)
			r := b.post(path, text, "Content-Type", contentType)
			if r.status != 200 || r.body != " 1 2 3\n" || r.backend() != "openrouter" || r.reason() != "unsupported" {
				t.Errorf("%s, %s: %d %s from %q (%s)", path, name, r.status, r.body, r.backend(), r.reason())
			}
			for _, want := range []struct {
				peer  *peer
				model string
				path  string
			}{{b.local, "qwen", path}, {b.cloud, "qwen/qwen-2.5-14b-instruct", "/api" + path}} {
				calls := want.peer.calls()
				got := calls[len(calls)-1]
				if string(got.body) != strings.Replace(text, "\r\nlocal/qwen\r\n", "\r\n"+want.model+"\r\n", 1) || got.path != want.path || got.header.Get("Content-Type") != contentType {
					t.Errorf("%s, %s: sent to %s as %q:\n%s", path, name, got.path, got.header.Get("Content-Type"), got.body)
				}
			}
		}
	}
	asked := len(b.cloud.calls())
	for name, tc := range map[string]struct {
		parts  []formPart
		status int
		words  string
	}{
		"no model":   {[]formPart{{"file", "a.wav", sound}}, 400, `\"model\" is missing`},
		"no name":    {[]formPart{{"model", "", ""}}, 400, `\"model\" is empty`},
		"two models": {[]formPart{{"model", "", "local"}, {"model", "", "gpt-4o"}}, 400, `two \"model\" fields`},
		"Model":      {[]formPart{{"model", "", "local"}, {"Model", "", "gpt-4o"}}, 400, `in lower case`},
		"a file":     {[]formPart{{"model", "a.txt", "gpt-4o"}}, 400, `plain text`},
		"unknown":    {[]formPart{{"model", "", "nonsense"}}, 404, "model_not_found"},
	} {
		text, contentType := form(t, tc.parts...)
		if r := b.post("/v1/audio/transcriptions", text, "Content-Type", contentType); r.status != tc.status || !strings.Contains(r.body, tc.words) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	text, contentType := form(t, formPart{"model", "", "gpt-4o"})
	if r := b.post("/v1/chat/completions", text, "Content-Type", contentType); r.status != 400 {
		t.Errorf("a form for a chat: %d %s", r.status, r.body)
	}
	if n := len(b.cloud.calls()); n != asked {
		t.Errorf("the cloud was asked %d times more", n-asked)
	}
	if r := b.post("/v1/audio/transcriptions", `{"model":"gpt-4o"}`); r.status != 200 || gjson.GetBytes(b.cloud.lastBody(), "model").Str != "openai/gpt-4o" {
		t.Errorf("as JSON: %d %s", r.status, r.body)
	}
}

// TestFormsThatTwoParsersReadInTwoWays are refused.
func TestFormsThatTwoParsersReadInTwoWays(t *testing.T) {
	const good = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nlocal\r\n--b--\r\n"
	if got, err := request.ParseForm([]byte(good), http.Header{"Content-Type": {"Multipart/Form-Data; boundary=b"}}); err != nil || got.Model != "local" || good[got.From:got.To] != "local" {
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
		"a boundary that goes on":  {"", "local", "local\r\n--bb\r\nx"},
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
		"no form's part":           {"", "form-data;", "attachment;"},
	} {
		h := http.Header{"Content-Type": {cmp.Or(tc.contentType, "multipart/form-data; boundary=b")}}
		if got, err := request.ParseForm([]byte(strings.ReplaceAll(good, cmp.Or(tc.was, "\x00"), tc.is)), h); err == nil {
			t.Errorf("%s: taken for %+v", name, got)
		}
	}
	if _, err := request.ParseForm([]byte(good), http.Header{"Content-Type": {"multipart/form-data; boundary=b", "text/plain"}}); err == nil {
		t.Error("two content types")
	}
	if _, err := request.ParseForm([]byte(strings.Repeat("--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n", request.MaxParts+1)+good), http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}); !errors.Is(err, request.ErrForm) {
		t.Errorf("too many parts: %v", err)
	}
}

// FuzzForm: what is read of a form, the standard library reads as well, and the
// form with another model is the same but for that.
func FuzzForm(f *testing.F) {
	text, contentType := form(f, formPart{"model", "", "local"}, formPart{"file", "a.wav", sound})
	_, params, _ := mime.ParseMediaType(contentType)
	f.Add(text, params["boundary"])
	f.Add("--b\r\ncontent-disposition:form-data;name=model\r\nX: y\r\n\r\nlocal\r\n--b--", "b")
	f.Fuzz(func(t *testing.T, text, boundary string) {
		b, err := request.ParseForm([]byte(text), http.Header{"Content-Type": {"multipart/form-data; boundary=\"" + boundary + "\""}})
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

func TestAudioDialect(t *testing.T) {
	const delta, done = `{"type":"transcript.text.delta","delta":" 1"}`, `{"type":"transcript.text.done","text":" 1","usage":{"input_tokens":14,"output_tokens":3}}`
	for data, want := range map[string]wire.EventInfo{
		"":                           {},
		"[DONE]":                     {Ended: true},
		delta:                        {Answered: true},
		`{"error":{"message":"no"}}`: {Failed: "no"},
		`{"choices":[{"delta":{}}]}`: {},
		`{"choices":[{"delta":{"content":"x"}}]}`: {Answered: true},
	} {
		if got := (wire.Audio{}).InspectEvent(wire.Event{Data: []byte(data)}, false); got != want {
			t.Errorf("%s: %+v, want %+v", data, got, want)
		}
	}
	if got := (wire.Audio{}).InspectEvent(wire.Event{Data: []byte(done)}, true); !got.Answered || !got.Ended || *got.Usage.Prompt != 14 || *got.Usage.Completion != 3 {
		t.Errorf("%+v", got)
	}
	for text, failed := range map[string]string{
		"": "an empty answer", "\n": "", " 1 2\n": "", "1\n00:00 --> 00:01\nx": "", `{"text":""}`: "", `{"error":{"message":"no"}}`: "no",
	} {
		if got := (wire.Audio{}).InspectBody([]byte(text)); got.Failed != failed {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
