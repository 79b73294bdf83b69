package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
)

func TestFallbackOn(t *testing.T) {
	const head = "routes:\n  r: {primary: openrouter, "
	for text, want := range map[string]string{
		head + "fallback: http://x/v1, fallback_on: [timeout, lost]}": "",
		head + "fallback: http://x/v1, fallback_on: []}":              "",
		head + "fallback_on: [timeout]}":                              "f.yaml:2: routes.r.fallback_on: needs a fallback",
		head + "fallback: http://x/v1, fallback_on: [slow]}":          `f.yaml:2: routes.r.fallback_on: "slow" is not a reason; the reasons are unloaded, starting, loading,`,
		head + "fallback: http://x/v1, fallback_on: {a: b}}":          "f.yaml:2: wrong kind of value; want a list",
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestWhileLoading(t *testing.T) {
	const head = "servers: {qwen: {model: q.gguf}}\nroutes:\n  r: {primary: qwen, fallback: openrouter, while_loading: "
	const wrong = "f.yaml:3: wrong value; want fallback, wait, or a duration above 0 (example: 10s)"
	for text, want := range map[string]string{
		head + "fallback}":         "fallback",
		head + "wait}":             "wait",
		head + "10s}":              "10s",
		head + "1m}":               "1m0s",
		head + "5m, timeout: 10m}": "5m0s",
		head + "}":                 "fallback",
		head + "20}":               wrong,
		head + "0s}":               wrong,
		head + "-1ns}":             wrong,
		head + "[wait]}":           wrong,
		head + "61s}":              "f.yaml:3: routes.r.while_loading: 1m1s is longer than the route's timeout of 1m0s, which ends the wait; raise timeout, or set wait",
		head + "10s, timeout: 9s}": "f.yaml:3: routes.r.while_loading: 10s is longer than the route's timeout of 9s, which ends the wait; raise timeout, or set wait",
		"servers: {qwen: {model: q.gguf}}\nroutes:\n  r: {primary: qwen, while_loading: wait}":                           "f.yaml:3: routes.r.while_loading: needs a fallback; without one, calls wait for the server anyway",
		"servers: {qwen: {model: q.gguf}}\nroutes:\n  r: {primary: openrouter, fallback: qwen, while_loading: fallback}": "fallback",
		"servers: {qwen: {model: q.gguf}}\nroutes:\n  r: {primary: openrouter, fallback: qwen, while_loading: wait}":     `f.yaml:3: routes.r.while_loading: needs a primary whose model llmsup loads, and "openrouter" is not in servers`,
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = c.Routes["r"].WhileLoading.String()
		}
		if got != want {
			t.Errorf("%q: %s\nwant %s", text, got, want)
		}
	}
}

func TestFallbacks(t *testing.T) {
	c := mustParse(t, `
upstreams:
  box2: {base_url: "http://box2:8000/v1", api_key_env: BOX2_KEY, billing: free}
  paid: {base_url: "http://paid/v1", billing: metered}
routes:
  list:
    primary: openrouter
    fallbacks:
      - {to: box2}
      - {to: paid, model: a/b}
      - to: http://third/v1
    fallback_on: [lost]
    resume: true
  single: {primary: paid, fallback: openrouter, fallback_model: a/b}
  empty: {primary: paid, fallbacks: []}
`)
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]models.Fallback{
		"list":   {{To: "box2"}, {To: "paid", Model: "a/b"}, {To: "http://third/v1"}},
		"single": {{To: "openrouter", Model: "a/b"}},
		"empty":  nil,
	} {
		if got := c.Routes[name].FallbackList(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if box2, paid, openrouter := c.Upstreams["box2"], c.Upstreams["paid"], c.Upstreams["openrouter"]; box2.Billing != models.Free || paid.Billing != models.Metered || openrouter.Billing != "" {
		t.Errorf("billing: box2 %q, paid %q, openrouter %q", box2.Billing, paid.Billing, openrouter.Billing)
	}
}

func TestFallbackErrors(t *testing.T) {
	const (
		head = "listen: 127.0.0.1:8000\nupstreams:\n  me: {base_url: 'http://localhost:8000/v1'}\nroutes:\n  r:\n    primary: openrouter\n"
		one  = "    fallback: http://x/v1\n"
	)
	for text, want := range map[string]string{
		one + "    fallbacks: [{to: http://y/v1}]":                                   `f.yaml:8: routes.r.fallbacks: the route also has fallback: "http://x/v1"; move it into fallbacks as {to: ..., model: ...}`,
		"    fallback_model: m\n    fallbacks: [{to: http://y/v1}]":                  `f.yaml:7: routes.r.fallback_model: "m" belongs to fallback; in fallbacks every item has its own model`,
		"    fallbacks:\n      - to: http://x/v1\n      - to: http://x/v1":           `f.yaml:9: routes.r.fallbacks: "http://x/v1" is in the list twice; keep one`,
		"    fallbacks:\n      - to: http://x/v1\n      - {model: m}":                `f.yaml:9: routes.r.fallbacks: item 2 has no ` + "`to`; set a server, an upstream, or a base URL",
		"    fallbacks:\n      - to: openrouter\n        model: m":                   `f.yaml:8: routes.r.fallbacks: "openrouter" is the primary itself`,
		"    fallbacks:\n      - to: box2":                                           `f.yaml:8: routes.r.fallbacks: item 1: there is no server and no upstream "box2"; there are me, openrouter`,
		"    fallbacks: [{to: me}]":                                                  `f.yaml:7: routes.r.fallbacks: "me" is llmsup's own address (listen), so its calls would come back; name another backend`,
		"    fallbacks: [{to: 'http://127.0.0.1:8000'}]":                             `f.yaml:7: routes.r.fallbacks: "http://127.0.0.1:8000" is llmsup's own address`,
		"    fallbacks: [{to: 'http://127.0.0.1:8001'}, {to: 'http://box:8000/v1'}]": "",
		"    fallbacks: [{to: http://y/v1, modell: m}]":                              `f.yaml:7: unknown key "modell"; did you mean "model"?`,
		"    fallbacks: [box2]":                                                      `f.yaml:7: wrong kind of value; want a backend and the model's name there (example: {to: openrouter,`,
		"    fallbacks: box2":                                                        `f.yaml:7: wrong kind of value; want a list (example: [{to: box2}, {to: openrouter,`,
		"    fallback_on: [lost]\n    fallbacks: []":                                 `f.yaml:7: routes.r.fallback_on: needs a fallback`,
	} {
		c, err := Parse("f.yaml", []byte(head+text))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
}

func TestLoopOnEveryInterface(t *testing.T) {
	for listen, loops := range map[string]bool{"0.0.0.0:80": true, ":80": true, "[::]:80": true, "localhost:80": true, "127.0.0.1:81": false, "192.0.2.1:80": false} {
		c := mustParse(t, "insecure_no_auth: true\nlisten: \""+listen+"\"\nroutes: {r: {primary: openrouter, fallbacks: [{to: 'http://127.0.0.1/v1'}]}}")
		if err := c.Resolve(noHeader); (err != nil) != loops {
			t.Errorf("listen %s: %v", listen, err)
		}
	}
}

func TestBillingErrors(t *testing.T) {
	for text, want := range map[string]string{
		"cheap": `f.yaml:2: upstreams.u.billing: "cheap" is neither metered nor free`,
		"[]":    "f.yaml:2: wrong kind of value; want metered or free",
	} {
		c, err := Parse("f.yaml", []byte("upstreams:\n  u: {base_url: http://x, billing: "+text+"}"))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
