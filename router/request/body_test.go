package request

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tidwall/gjson"
)

func TestParseBody(t *testing.T) {
	for name, tc := range map[string]struct {
		raw   string
		model string
		wrong string // part of the error; "" = none
	}{
		"plain":              {`{"model":"local","messages":[]}`, "local", ""},
		"spaces":             {" \n\t{ \"messages\" : [ ] ,\r\n \"model\" : \"local\" } ", "local", ""},
		"escaped value":      {`{"model":"\u006cocal"}`, "local", ""},
		"escaped key":        {`{"\u006dodel":"local"}`, "local", ""},
		"nested is no model": {`{"x":{"model":"a"},"model":"b","y":[{"model":"c"}]}`, "b", ""},
		"huge number":        {`{"model":"a","t":1e400}`, "a", ""},
		"other keys doubled": {`{"model":"a","t":1,"t":2}`, "a", ""},
		"non-ASCII":          {`{"ключ":"значение","model":"модель"}`, "модель", ""},
		"no model":           {`{"messages":[]}`, "", ""},
		"empty object":       {`{}`, "", ""},
		"two models":         {`{"model":"a","x":1,"model":"b"}`, "", `two "model" keys`},
		"two, one escaped":   {`{"model":"a","mode\u006c":"b"}`, "", `two "model" keys`},
		"two equal ones":     {`{"model":"a","model":"a"}`, "", `two "model" keys`},
		"model is a number":  {`{"model":4}`, "", "must be a string"},
		"model is false":     {`{"model":false}`, "", "must be a string"},
		"model is null":      {`{"model":null}`, "", ""},
		"model is empty":     {`{"model":""}`, "", ""},
		"null, and a model":  {`{"model":null,"model":"a"}`, "", `two "model" keys`},
		"array":              {`[{"model":"a"}]`, "", "JSON object"},
		"string":             {`"model"`, "", "JSON object"},
		"nothing":            {``, "", "not valid JSON"},
		"cut off":            {`{"model":"a"`, "", "not valid JSON"},
		"trailing garbage":   {`{"model":"a"} {"model":"b"}`, "", "not valid JSON"},
		"trailing comma":     {`{"model":"a",}`, "", "not valid JSON"},
		"form":               {`model=a`, "", "not valid JSON"},
		"too deep":           {`{"model":"a","x":` + strings.Repeat("[", 5_000_000) + strings.Repeat("]", 5_000_000) + `}`, "", "not valid JSON"},
		"many brackets":      {`{"model":"a","x":[` + strings.Repeat("[],", 20_000) + `[]]}`, "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := ParseBody([]byte(tc.raw))
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Fatalf("error %v, want one with %q", err, tc.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b.Model != tc.model {
				t.Fatalf("model %q, want %q", b.Model, tc.model)
			}
		})
	}
}

func TestWithModelChangesNothingElse(t *testing.T) {
	large := strings.Repeat("long ", maxCopied)
	for name, tc := range map[string]struct{ raw, model, want string }{
		"shorter": {
			`{ "t" : 1e400, "model" :  "local/qwen" , "a":"\ud800", "t" : 2 }`, "q",
			`{ "t" : 1e400, "model" :  "q" , "a":"\ud800", "t" : 2 }`,
		},
		"with quotes":     {`{"model":"a"}`, `x"y\z`, `{"model":"x\"y\\z"}`},
		"the same":        {`{"model":"\u0061"}`, "a", `{"model":"\u0061"}`},
		"without a model": {`{"content":"x"}`, "a", `{"content":"x"}`},
		"large":           {`{"x":"` + large + `","model":"a","y":1}`, "b", `{"x":"` + large + `","model":"b","y":1}`},
		"large, and last": {`{"x":"` + large + `","model":"a"}`, "b", `{"x":"` + large + `","model":"b"}`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := ParseBody([]byte(tc.raw))
			if err != nil {
				t.Fatal(err)
			}
			p := b.WithModel(tc.model)
			got, err := io.ReadAll(p.Open())
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, tc.want)
			}
			if err := iotest.TestReader(p.Open(), []byte(tc.want)); err != nil {
				t.Error(err)
			}
			if p.Size() != len(tc.want) {
				t.Errorf("size %d, want %d", p.Size(), len(tc.want))
			}
		})
	}
}

func TestAddModel(t *testing.T) {
	const formText = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n"
	for name, tc := range map[string]struct {
		raw, want string
		form      bool
	}{
		"fields":       {raw: ` { "messages":[],"t":1e400}`, want: ` {"model":"a\"b", "messages":[],"t":1e400}`},
		"no fields":    {raw: "{ \n}", want: "{\"model\":\"a\\\"b\" \n}"},
		"has a model":  {raw: `{"model":"a\"b"}`, want: `{"model":"a\"b"}`},
		"another name": {raw: `{"model":"c"}`, want: `{"model":"a\"b"}`},
		"null":         {raw: `{"a":1,"model" : null}`, want: `{"a":1,"model" : "a\"b"}`},
		"an empty one": {raw: `{"model":"","a":1}`, want: `{"model":"a\"b","a":1}`},
		"form":         {raw: formText, form: true, want: "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\"b\r\n" + formText},
	} {
		t.Run(name, func(t *testing.T) {
			parse := func(raw []byte) (Body, error) {
				if tc.form {
					return ParseForm(raw, http.Header{"Content-Type": {"multipart/form-data; boundary=b"}})
				}
				return ParseBody(raw)
			}
			b, err := parse([]byte(tc.raw))
			if err != nil {
				t.Fatal(err)
			}
			b.AddModel = true
			got, err := io.ReadAll(b.WithModel(`a"b`).Open())
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %q (%v)\nwant %q", got, err, tc.want)
			}
			if again, err := parse(got); err != nil || again.Model != `a"b` {
				t.Errorf("its model is %q (%v)", again.Model, err)
			}
		})
	}
}

// FuzzBody: encoding/json accepts each body that ParseBody accepts, and WithModel gives
// JSON with the new model and everything else unchanged.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"model":"local","messages":[{"role":"user","content":"hi"}]}`, `{"\u006dodel" : "x" }`, `{"model":"a","model":"b"}`,
		`[]`, `{}`, `{"a":{"model":1},"model":"\ud83d\ude00"}`, "{\"model\":\"a\x00\"}", `{"model":"a","n":-0.0e+10}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		b, err := ParseBody([]byte(raw))
		if err != nil {
			return
		}
		if !json.Valid([]byte(raw)) && !strings.ContainsFunc(raw, func(r rune) bool { return r < ' ' || r == 0xFFFD }) {
			t.Fatalf("accepted, and is not JSON: %q", raw)
		}
		if b.To == 0 {
			return
		}
		out, err := io.ReadAll(b.WithModel("another one").Open())
		if err != nil {
			t.Fatal(err)
		}
		if got := gjson.GetBytes(out, "model"); !strings.Contains(raw, `\`) && got.Str != "another one" {
			t.Fatalf("model is %q in %s", got.Str, out)
		}
		if want := raw[:b.From] + `"another one"` + raw[b.To:]; string(out) != want {
			t.Fatalf("got %q, want %q", out, want)
		}
		if again, err := ParseBody(out); err != nil || again.Model != "another one" {
			t.Fatalf("rewritten body: %q, %v", again.Model, err)
		}
	})
}
