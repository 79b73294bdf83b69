package router

import (
	"bytes"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
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

const audioFile = "RIFF\x00\x00\r\n--\r\n\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\xff"

// TestTranscription: a form goes where its model says, unchanged but for the model, and to
// the fallback if the local server cannot answer it.
func TestTranscription(t *testing.T) {
	b := newFixture(t, status(501, `{"error":{"message":"This model does not support audio input","type":"not_supported_error"}}`), status(200, " 1 2 3\n", "Content-Type", "text/plain"))
	for _, path := range []string{"/v1/audio/transcriptions", "/v1/audio/translations"} {
		for name, parts := range map[string][]formPart{
			"model first": {{"model", "", "local/qwen"}, {"file", "a \"b\".wav", audioFile}, {"response_format", "", "text"}},
			"model last":  {{"file", "ü.wav", audioFile}, {"language", "", "de"}, {"model", "", "local/qwen"}},
		} {
			text, contentType := form(t, parts...)
			r := b.post(path, text, "Content-Type", contentType)
			if r.status != 200 || r.body != " 1 2 3\n" || r.backend() != "openrouter" || r.reason() != "unsupported" {
				t.Errorf("%s, %s: %d %s from %q (%s)", path, name, r.status, r.body, r.backend(), r.reason())
			}
			for _, want := range []struct {
				peer  *fakeBackend
				model string
				path  string
			}{{b.local, "qwen", path}, {b.cloud, "qwen/qwen-2.5-14b-instruct", "/api" + path}} {
				if want.peer == b.local && path == "/v1/audio/translations" { // llama-server has no such path
					continue
				}
				calls := want.peer.requests()
				got := calls[len(calls)-1]
				if string(got.body) != strings.Replace(text, "\r\nlocal/qwen\r\n", "\r\n"+want.model+"\r\n", 1) || got.path != want.path || got.header.Get("Content-Type") != contentType {
					t.Errorf("%s, %s: sent to %s as %q:\n%s", path, name, got.path, got.header.Get("Content-Type"), got.body)
				}
			}
		}
	}
	asked := len(b.cloud.requests())
	for name, tc := range map[string]struct {
		parts  []formPart
		status int
		words  string
	}{
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
	if n := len(b.cloud.requests()); n != asked {
		t.Errorf("the cloud was asked %d times more", n-asked)
	}
	if r := b.post("/v1/audio/transcriptions", `{"model":"gpt-4o"}`); r.status != 200 || gjson.GetBytes(b.cloud.lastBody(), "model").Str != "openai/gpt-4o" {
		t.Errorf("as JSON: %d %s", r.status, r.body)
	}
}
