package models

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"0.20":                               `0.20`,
		"1e400":                              `1e400`,
		"1E+5":                               `1E+5`,
		"-0":                                 `-0`,
		"123456789012345678901234567890":     `123456789012345678901234567890`,
		"0x10":                               `16`,
		"010":                                `8`,
		"1_000":                              `1000`,
		"+1.5":                               `1.5`,
		".5":                                 `0.5`,
		"true":                               `true`,
		"~":                                  `null`,
		"yes":                                `"yes"`,
		"2026-01-31":                         `"2026-01-31"`,
		"'12'":                               `"12"`,
		"!!str 12":                           `"12"`,
		`"a\"b\n<&>é\u2028"`:                 `"a\"b\n<&>é\u2028"`,
		"|\n  two\n  lines":                  `"two\nlines"`,
		"[]":                                 `[]`,
		"{}":                                 `{}`,
		"[1, [a], {b: c, d: null}]":          `[1,["a"],{"b":"c","d":null}]`,
		"[&x {a: 1.0}, *x]":                  `[{"a":1.0},{"a":1.0}]`,
		"{1: a, true: b, n: c, <: d}":        `{"1":"a","true":"b","n":"c","<":"d"}`,
		"{type: object, required: [answer]}": `{"type":"object","required":["answer"]}`,
	} {
		var got map[string]JSON
		if err := yaml.Unmarshal([]byte("v: "+text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got["v"].Text() != want || !json.Valid([]byte(got["v"].Text())) {
			t.Errorf("%s: %s, want %s", text, got["v"].Text(), want)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	for name, text := range map[string]string{
		"not finite":           "[\n.nan]",
		"binary":               "[\n!!binary aGVsbG8=]",
		"an unknown tag":       "[\n!me a]",
		"a key that is a list": "{\n[a]: b}",
		"a merge":              "{a: &a {b: 1}, c: {\n<<: *a}}",
		"a key twice":          "{a: 1,\na: 2}",
		"itself":               "&x [\n*x]",
		"too large":            "[&a [" + strings.Repeat("aaaaaaaaaa,", 1000) + "],&b [*a,*a,*a,*a,*a],&c [*b,*b,*b,*b,*b],\n[*c,*c,*c,*c]]",
		"too deep":             "[\n" + strings.Repeat("[", 200) + strings.Repeat("]", 201),
	} {
		var got map[string]JSON
		err := yaml.Unmarshal([]byte("v: "+text), &got)
		if value, ok := errors.AsType[*ValueError](err); !ok || value.Line < 1 || value.Line > 2 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzJSON: each accepted value is JSON.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a": [1, 2.50, "x", null, true]}`, "0x1F", "1e400", "&a [*a]", "- a\n- b", `"\u0041"`, "2001-01-01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got map[string]JSON
		if err := yaml.Unmarshal([]byte("v: "+text), &got); err != nil {
			return
		}
		if !json.Valid([]byte(got["v"].Text())) {
			t.Errorf("%q: %q is not JSON", text, got["v"].Text())
		}
	})
}
