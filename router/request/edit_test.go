package request

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

func TestEdit(t *testing.T) {
	set := &models.Edits{Set: models.Parameters{"temperature": "0.20", "stop": ""}}
	force := &models.Edits{Force: models.Parameters{"top_k": "40", "a b": `{"c":[1e400]}`}}
	strip := &models.Edits{Strip: []string{"user", "logit_bias"}}
	all := &models.Edits{Set: set.Set, Force: force.Force, Strip: strip.Strip}
	const forced = `"a b":{"c":[1e400]},"top_k":40`
	for name, tc := range map[string]struct {
		edits     *models.Edits
		raw, want string // want "" = unchanged
	}{
		"nothing":                     {nil, `{"model":"m"}`, ""},
		"defaults":                    {set, `{"model":"m"}`, `{"stop":null,"temperature":0.20,"model":"m"}`},
		"defaults that are there":     {set, ` { "stop" : "x", "temperature": 1.0e0}`, ""},
		"null is a value":             {set, `{"stop":1,"temperature":null}`, ""},
		"an escaped name":             {set, `{"stop":1,"\u0074emperature":1}`, ""},
		"a name in another case":      {set, `{"Stop":1,"TEMPERATURE":1}`, ""},
		"nested names":                {set, `{"stop":{"temperature":1}}`, `{"temperature":0.20,"stop":{"temperature":1}}`},
		"an empty object":             {force, ` { } `, ` {` + forced + ` } `},
		"forced":                      {force, `{"top_k":1}`, `{` + forced + `}`},
		"forced, at the beginning":    {force, `{ "top_k" : 1 , "model" : "m" }`, `{ ` + forced + `,"model" : "m" }`},
		"forced, in the middle":       {force, `{"model":"m", "top_k":1, "n":1}`, `{` + forced + `,"model":"m","n":1}`},
		"forced, at the end":          {force, `{"model":"m" , "top_k":1 }`, `{` + forced + `,"model":"m" }`},
		"forced, duplicates":          {force, `{"top_k":1,"model":"m","top_k":2,"to\u0070_k":3,"TOP_K":4,"ſeed":5}`, `{` + forced + `,"model":"m","ſeed":5}`},
		"stripped":                    {strip, `{"user":"u","logit_bias":{"1":2}}`, `{}`},
		"stripped, some":              {strip, `{"user":"u", "model":"m","a":1 ,"u\u0073er":{},"b":2,"User":3,"logit_bias":null}`, `{"model":"m","a":1,"b":2}`},
		"stripped, long s":            {strip, `{"uſer":1}`, `{}`}, // as encoding/json reads it
		"nothing to strip":            {strip, `{"model":"m","x":{"user":1}}`, ""},
		"all of them":                 {all, `{"user":1,"top_k":2,"temperature":3,"x":1E400,"x":[ ]}`, `{` + forced + `,"stop":null,"temperature":3,"x":1E400,"x":[ ]}`},
		"a backslash at the end":      {strip, `{"user":"\\","x":"\\\"}"}`, `{"x":"\\\"}"}`},
		"braces before the key's end": {force, `{"}{":1}`, `{` + forced + `,"}{":1}`},
	} {
		b, err := ParseBody([]byte(tc.raw))
		if err != nil && tc.raw == "" {
			t.Fatal(err)
		}
		got := b.Edit(tc.edits)
		want := tc.want
		if want == "" {
			want = tc.raw
		}
		if got.Text() != want {
			t.Errorf("%s: %s\nwant %s", name, got.Text(), want)
		}
		if copied := len(got.Raw) > 0 && &got.Raw[0] != &b.Raw[0]; copied != (tc.want != "") || b.Text() != tc.raw {
			t.Errorf("%s: copied %t, the client's body is %s", name, copied, b.Text())
		}
	}
}

// TestEditedBody: what the router reads of a body is that of the edited one.
func TestEditedBody(t *testing.T) {
	fields := models.EngineFields{"grammar": {Needed: func(gjson.Result) bool { return true }, Paths: []string{"/x"}}}
	b, err := ParseBodyFor(fields, []byte(`{"user":"`+strings.Repeat("u", 30)+`","stream":true,"stream_options":{},"model":"m","models":["n"]}`))
	if err != nil {
		t.Fatal(err)
	}
	b.Buffer = NewBuffer(1)
	got := b.Edit(&models.Edits{Force: models.Parameters{"grammar": `"x"`}, Strip: []string{"user"}})
	if got.Model != "m" || string(got.Raw[got.From:got.To]) != `"m"` || string(got.Raw[got.Options.From:got.Options.To]) != "{}" || !got.Stream || len(got.Choices) != 1 ||
		len(got.NeededFields) != 1 || len(b.NeededFields) != 0 || got.Buffer != nil {
		t.Errorf("%+v", got)
	}
	if payload := got.WithModel("other"); !bytes.Contains(payload.Parts[0], []byte(`"model":"other"`)) {
		t.Errorf("%s", payload.Parts)
	}
}

// TestEditWithoutModel: a body that names no model is sent with one.
func TestEditWithoutModel(t *testing.T) {
	b, err := ParseBody([]byte(`{"user":1}`))
	if err != nil {
		t.Fatal(err)
	}
	b.Model, b.AddModel = "local", true
	if got := b.Edit(&models.Edits{Strip: []string{"user"}}); string(got.WithModel("m").Parts[0]) != `{"model":"m"}` || got.Model != "local" {
		t.Errorf("%s, %+v", got.WithModel("m").Parts[0], got)
	}
}

func TestFormIsNotEdited(t *testing.T) {
	b := Body{Raw: []byte(`{"user":1}`), Form: true}
	if got := b.Edit(&models.Edits{Strip: []string{"user"}}); got.Text() != b.Text() {
		t.Error(got.Text())
	}
}

// FuzzEdit: an edited body is JSON, has what it should have, and keeps all other members.
func FuzzEdit(f *testing.F) {
	edits := &models.Edits{
		Set: models.Parameters{"temperature": "0.2", "seed": "1"}, Force: models.Parameters{"top_k": "40", "n": "[1,{}]"}, Strip: []string{"user", "stop"},
	}
	f.Add(`{"model":"m","top_k":1,"messages":[{"role":"user"}],"user":"u"}`)
	f.Add(`{"n":1,"\u006e":2,"a":1e400,"seed":null}`)
	f.Add(` { "stop" : [ ] , "USER" : {} } `)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, raw string) {
		b, err := ParseBody([]byte(raw))
		if err != nil {
			return
		}
		got := b.Edit(edits)
		var want, members []string
		wire.Scan(b.Raw, func(m wire.Member) {
			name := string(wire.MemberName(b.Raw[m.KeyFrom:m.KeyTo]))
			if !edits.Removes(name) {
				want = append(want, raw[m.KeyFrom:m.KeyTo]+raw[m.From:m.To])
			}
		})
		counts := map[string]int{}
		valid := wire.Scan(got.Raw, func(m wire.Member) {
			name := string(wire.MemberName(got.Raw[m.KeyFrom:m.KeyTo]))
			counts[strings.ToLower(name)]++
			members = append(members, string(got.Raw[m.KeyFrom:m.KeyTo])+string(got.Raw[m.From:m.To]))
		})
		if !valid || !wire.IsObject(got.Raw) || b.Text() != raw {
			t.Fatalf("%q: %q", raw, got.Raw)
		}
		if counts["top_k"] != 1 || counts["n"] != 1 || counts["user"]+counts["stop"] != 0 || counts["temperature"] == 0 || counts["seed"]+counts["ſeed"] == 0 {
			t.Errorf("%q: %q", raw, got.Raw)
		}
		if len(members) < len(want) || strings.Join(members[len(members)-len(want):], "\n") != strings.Join(want, "\n") {
			t.Errorf("%q: %q\nkept %q\nwant %q", raw, got.Raw, members, want)
		}
	})
}
