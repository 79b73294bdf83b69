package config

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
)

// TestEdits: values are written as JSON, and an entry of fallbacks overrides its route's edits
// one by one.
func TestEdits(t *testing.T) {
	c := mustParse(t, `
servers: {mini: {model: mini.gguf}}
routes:
  local/mini:
    primary: mini
    set: {temperature: 0.20, stop: null}
    force: {max_tokens: 64, response_format: {type: json_object}}
    strip: [logit_bias]
    fallbacks:
      - to: openrouter
      - {to: http://a/v1, force: {}, strip: [user]}
      - {to: http://b/v1, set: {}, force: {}, strip: []}
  single: {primary: mini, fallback: openrouter, force: {top_k: 40}}
`)
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	table, err := c.Table()
	if err != nil {
		t.Fatal(err)
	}
	const set, force = `set stop=null temperature=0.20`, ` force max_tokens=64 response_format={"type":"json_object"}`
	for name, want := range map[string][]string{
		"local/mini": {set + force + " strip [logit_bias]", set + force + " strip [logit_bias]", set + " force strip [user]", ""},
		"local":      {set + force + " strip [logit_bias]", set + force + " strip [logit_bias]", set + " force strip [user]", ""}, // a name of the same route
		"single":     {"set force top_k=40 strip []", "set force top_k=40 strip []"},
		"gpt-4o":     {""},
	} {
		route, _ := table.Lookup(name)
		got := []string{describeEdits(route.Edits)}
		for _, f := range route.FallbackList() {
			got = append(got, describeEdits(f.Edits))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func describeEdits(e *models.Edits) string {
	if e == nil {
		return ""
	}
	parameters := func(p models.Parameters) (out string) {
		for _, name := range p.Names() {
			out += " " + name + "=" + p[name].Text()
		}
		return out
	}
	return "set" + parameters(e.Set) + " force" + parameters(e.Force) + " strip [" + strings.Join(e.Strip, " ") + "]"
}

func TestEditErrors(t *testing.T) {
	const cannot = ` cannot be edited: it decides where a call goes, what it asks or how it is answered`
	for text, want := range map[string]string{
		"set: {model: x}":                          `f.yaml:4: routes.r.set: "model"` + cannot,
		"force: {Messages: []}":                    `f.yaml:4: routes.r.force: "Messages"` + cannot,
		"strip: [user, stream]":                    `f.yaml:4: routes.r.strip: "stream"` + cannot,
		"strip:\n      - user\n      - models":     `f.yaml:6: routes.r.strip: "models"` + cannot,
		"set:\n      a: 1\n    force:\n      A: 2": `f.yaml:7: routes.r.force: "A" is there twice; keep it in one of set, force and strip`,
		"set: {a: 1}\n    strip: [a]":              `f.yaml:5: routes.r.strip: "a" is there twice`,
		"strip: [a, a]":                            `f.yaml:4: routes.r.strip: "a" is there twice`,
		"set: {'': 1}":                             `f.yaml:4: routes.r.set: "" is not the name of a parameter`,
		"set: {a: 1, a: 2}":                        `f.yaml:4: the key "a" is there twice, first in line 4; keep one`,
		"set: [a]":                                 `f.yaml:4: wrong kind of value; want parameters and their values (example: {temperature: 0.2})`,
		"strip: a":                                 `f.yaml:4: wrong kind of value; want a list`,
		"set: {a: .inf}":                           `f.yaml:4: wrong value; want what JSON can express`,
		"set: {a: {b: 1, b: 2}}":                   `f.yaml:4: wrong value; want keys that are text, each once, without << and *`,
		"set: {a: &x [*x]}":                        `f.yaml:4: wrong value; want a value of at most 64 KiB, nested at most 100 deep`,
		"sett: {a: 1}":                             `f.yaml:4: unknown key "sett"; did you mean "set"?`,
		"force: {a: 1}\n    fallbacks: [{to: http://x/v1, strip: [a]}]":    `f.yaml:5: routes.r.fallbacks: item 1.strip: "a" is there twice`,
		"fallbacks:\n      - to: http://x/v1\n        set: {stream: true}": `f.yaml:6: routes.r.fallbacks: item 1.set: "stream"` + cannot,
		"fallbacks:\n      - to: http://x/v1\n        sett: {}":            `f.yaml:6: unknown key "sett"; did you mean "set"?`,
		"set: {sk-abcdefghijklmnopqrstuvwxyz: 1, stream: 1}":               `f.yaml:4: routes.r.set: "stream"` + cannot,
	} {
		c, err := Parse("f.yaml", []byte("routes:\n  r:\n    primary: openrouter\n    "+text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
}

// TestEditsWithoutValue: a key without a value is as none.
func TestEditsWithoutValue(t *testing.T) {
	c := mustParse(t, "routes: {r: {primary: openrouter, set: , force: ~, strip: }}")
	if err := c.Resolve(noHeader); err != nil {
		t.Error(err)
	}
	for name, route := range c.Routes {
		if models.MergeEdits(nil, route.Edits) != nil {
			t.Errorf("%s has edits", name)
		}
	}
}
