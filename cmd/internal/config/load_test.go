package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
)

// contract is the example of the design, word for word but for its comments.
const contract = `
listen: 127.0.0.1:8000
servers:
  qwen2.5-14b:
    model: /srv/models/qwen2.5-14b-instruct-q4_k_m.gguf
    ctx_size: 8192
    n_gpu_layers: 99
    args: [--flash-attn, "on"]
upstreams:
  openrouter:
    base_url: https://openrouter.ai/api/v1
    api_key_env: OPENROUTER_API_KEY
routes:
  local/qwen2.5-14b:
    primary: qwen2.5-14b
    fallback: openrouter
    fallback_model: qwen/qwen-2.5-14b-instruct
    timeout: 60s
  gpt-4o:
    primary: openrouter
    primary_model: openai/gpt-4o
    timeout: 120s
  "anthropic/*":
    primary: openrouter
    timeout: 120s
`

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llmsup.yaml")
	if err := os.WriteFile(path, []byte(contract), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	table, err := c.Table()
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]models.Route{
		"local":             {Name: "local", Primary: "qwen2.5-14b", Fallback: "openrouter", FallbackModel: "qwen/qwen-2.5-14b-instruct", Timeout: time.Minute},
		"local/qwen2.5-14b": {Name: "local/qwen2.5-14b", Primary: "qwen2.5-14b", Fallback: "openrouter", FallbackModel: "qwen/qwen-2.5-14b-instruct", Timeout: time.Minute},
		"gpt-4o":            {Name: "gpt-4o", Primary: "openrouter", PrimaryModel: "openai/gpt-4o", Timeout: 2 * time.Minute},
		"gpt-4o-mini":       {Name: "gpt-4o-mini", Primary: "openrouter", PrimaryModel: "openai/gpt-4o-mini", Timeout: 2 * time.Minute},
		"anthropic/claude":  {Name: "anthropic/*", Primary: "openrouter", Timeout: 2 * time.Minute},
		"local/qwen2.5-7b":  {},
	} {
		if got, _ := table.Lookup(model); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", model, got, want)
		}
	}
	if c.MaxBody != 32<<20 || c.LogFormat != "auto" || c.File != path {
		t.Errorf("defaults: %+v", c)
	}
}

func TestLoadKeepsDefaults(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "comments": "# nothing\n", "a null document": "---\n", "null sections": "servers:\nupstreams:\nroutes:\n", "null settings": "listen:\nmax_body: ~\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, text)
			was := Default()
			if c.Listen != was.Listen || c.MaxBody != was.MaxBody || len(c.Routes) != len(was.Routes) || len(c.Upstreams) != 1 || c.Servers == nil {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestLoadOverlays(t *testing.T) {
	c := mustParse(t, `
upstreams: {openrouter: {base_url: "http://127.0.0.1:9/v1"}}
routes: {gpt-4o: {primary: openrouter}}
servers: {a: {model: a.gguf}, b: {model: b.gguf, ctx_size: 100, n_gpu_layers: 0}}
`)
	if u := c.Upstreams["openrouter"]; u.APIKeyEnv != "" || u.BaseURL != "http://127.0.0.1:9/v1" {
		t.Errorf("the built-in upstream shines through: %+v", u)
	}
	if r := c.Routes["gpt-4o"]; !reflect.DeepEqual(r, models.Route{Primary: "openrouter"}) {
		t.Errorf("the built-in route shines through: %+v", r)
	}
	if s := c.Servers["a"]; s.CtxSize != 8192 || s.NGPULayers != 99 {
		t.Errorf("a server's defaults: %+v", s)
	}
	if s := c.Servers["b"]; s.CtxSize != 100 || s.NGPULayers != 0 {
		t.Errorf("a server's own: %+v", s)
	}
	if Default().Upstreams["openrouter"].APIKeyEnv == "" {
		t.Error("a file has changed the defaults")
	}
}

func TestLoadAnchors(t *testing.T) {
	c := mustParse(t, `
servers:
  a: &base {model: a.gguf, n_gpu_layers: 0, ctx_size: 100}
  b: *base
  c:
    <<: *base
    model: c.gguf
  d:
    <<: [*base]
    ctx_size: 200
`)
	for name, want := range map[string]Server{
		"a": {Model: "a.gguf", CtxSize: 100}, "b": {Model: "a.gguf", CtxSize: 100},
		"c": {Model: "c.gguf", CtxSize: 100}, "d": {Model: "a.gguf", CtxSize: 200},
	} {
		if got := c.Servers[name]; got.Model != want.Model || got.CtxSize != want.CtxSize || got.NGPULayers != want.NGPULayers {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// TestLoadErrors holds the sentences that an operator reads: where, what, and
// what to do.
func TestLoadErrors(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":          {"listne: x", `f.yaml:1: unknown key "listne"; did you mean "listen"?`},
		"unknown key in route": {"routes:\n  a:\n    primary: x\n    timout: 3s", `f.yaml:4: unknown key "timout"; did you mean "timeout"?`},
		"half a key":           {"upstreams: {a: {api_key: x}}", `f.yaml:1: unknown key "api_key"; did you mean "api_key_env"?`},
		"another word":         {"servers: {a: {colour: red}}", `f.yaml:1: unknown key "colour"; there are model, ctx_size, n_gpu_layers, args`},
		"doubled key":          {"listen: a\nlisten: b", `f.yaml:2: the key "listen" is there twice, first in line 1; keep one`},
		"doubled route":        {"routes:\n  a: {primary: x}\n  a: {primary: x}", `f.yaml:3: the key "a" is there twice, first in line 2; keep one`},
		"no duration":          {"routes: {a: {timeout: soon}}", "f.yaml:1: wrong kind of value; want a duration (examples: 60s, 2m)"},
		"a bare number":        {"routes: {a: {timeout: 60}}", "f.yaml:1: wrong kind of value; want a duration (examples: 60s, 2m)"},
		"no number":            {"servers: {a: {ctx_size: 8k}}", "f.yaml:1: wrong kind of value; want a whole number"},
		"no list":              {"servers: {a: {args: --x}}", `f.yaml:1: wrong kind of value; want a list (example: [local, gpt-4o])`},
		"no list, a command":   {"servers: {a: {command: foo bar}}", `f.yaml:1: wrong kind of value; want a list (example: [whisper-server, --port, "${PORT}"])`},
		"no list, a stop":      {"servers: {a: {command: [x], stop_command: foo}}", `f.yaml:1: wrong kind of value; want a list (example: `},
		"a list for a file":    {"- a\n- b", "f.yaml:1: wrong kind of value; want keys and values, indented below"},
		"a word for a file":    {"hello", "f.yaml:1: wrong kind of value; want keys and values, indented below"},
		"bad size":             {"max_body: 32 parsecs", "f.yaml:1: wrong value; want a size (example: 32MiB)"},
		"second document":      {"listen: a\n---\nlisten: b", "f.yaml:2: a second YAML document begins here; keep one"},
		"broken second":        {"listen: a\n---\n[", "f.yaml:3: this is not YAML: "},
		"not YAML":             {"listen: [", "f.yaml:1: this is not YAML: "},
		"tab":                  {"servers:\n\ta: b", "f.yaml:2: this is not YAML: found character that cannot start any token"},
		"log level":            {"\nlog_level: loud", `f.yaml:2: log_level: "loud" is none of trace, debug, info, warn, error`},
		"log format":           {"log_format: xml", `f.yaml:1: log_format: "xml" is none of auto, console, json`},
		"itself":               {"servers: {a: &a {<<: *a}}", "f.yaml: this is not YAML: anchor value contains itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tc.text))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestErrorsKeepSecrets checks that no error contains a key that was pasted in a wrong
// place.
func TestErrorsKeepSecrets(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":        "upstreams: {o: {base_url: 'https://x/v1', api_key: SECRET}}",
		"wrong kind":         "servers: {a: {ctx_size: SECRET}}",
		"wrong kind of list": "routes: {a: [SECRET]}",
		"size":               "max_body: SECRET",
		"tag":                "listen: !!float SECRET",
		"alias":              "listen: *SECRET",
		"map key":            "routes: {[SECRET]: {primary: a}}",
		"environment":        "upstreams: {o: {base_url: 'https://x/v1', api_key_env: sk-SECRET}}",
		"environment, plain": "upstreams: {o: {base_url: 'https://x/v1', api_key_env: gsk_SECRET}}",
		"user of a URL":      "upstreams: {o: {base_url: 'https://me:SECRET@x/v1'}}",
		"query of a URL":     "upstreams: {o: {base_url: 'https://x/v1?key=SECRET'}}",
		"user of a primary":  "routes: {a: {primary: 'https://SECRET@x/v1'}}",
		"argument":           "servers: {a: {model: m, args: ['--api-key=SECRET']}}",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(text))
			if err == nil {
				err = c.Resolve(noHeader)
			}
			if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestLoadWithoutFile(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ path, want string }{
		"missing":     {filepath.Join(dir, "none.yaml"), "none.yaml: no such file or directory; pass another file with --config"},
		"a directory": {dir, ": is a directory; pass another file with --config"},
		"too big":     {big, "it is over 256 KiB"},
	} {
		if _, err := Load(tc.path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLoadEmptyFiles: a file that an editor or a script has cut to nothing
// must not take the keys and the budget with it.
func TestLoadEmptyFiles(t *testing.T) {
	for text, empty := range map[string]bool{"": true, "\n \n": true, "# keys: {}\n": true, "---\n": true, "null\n": true, "{}\n": false, "keys:\n": false} {
		path := filepath.Join(t.TempDir(), "llmsup.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if want := path + ": the file has no settings; write {} to use the defaults"; empty && (err == nil || err.Error() != want) || !empty && err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzLoad: whatever a file holds, it is read or refused in one line that names
// it, and what is read can be resolved or refused.
func FuzzLoad(f *testing.F) {
	f.Add(contract)
	f.Add("servers: {a: &a {model: x, args: [-c]}, b: {<<: [*a, *a]}}")
	f.Add("routes: {'*': {primary: http://x, timeout: 1h}}\n---\n")
	f.Add("max_body: 1e9\n? [a]\n: !!binary x")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Resolve(noHeader)
		} else if !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("an error without the file: %v", err)
		}
		if err != nil {
			return
		}
		if _, err := c.Table(); err != nil {
			t.Errorf("a valid configuration without a table: %v", err)
		}
		for name, r := range c.Routes {
			if r.Timeout <= 0 {
				t.Errorf("route %q has no timeout", name)
			}
		}
	})
}

func noHeader(string) string { return "" }

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
