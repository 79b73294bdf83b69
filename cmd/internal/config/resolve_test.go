package config

import (
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
)

// TestAutomaticRoutes: the routes that a server gets besides those of the file.
// A route is written as primary > fallback as fallback model, timeout.
func TestAutomaticRoutes(t *testing.T) {
	const qwen = " > openrouter as qwen/qwen-2.5-14b-instruct, 1m0s"
	for name, tc := range map[string]struct {
		file   string
		flags  Flags
		header map[string]string
		want   map[string]string // "" = there is no such route
	}{
		"a known model": {
			flags: Flags{Model: "/m/Qwen2.5-14B-Instruct-Q4_K_M.gguf"},
			want: map[string]string{
				"local": "qwen2.5-14b-instruct" + qwen, "local/qwen2.5-14b-instruct": "qwen2.5-14b-instruct" + qwen,
				"local/qwen2.5-14b": "qwen2.5-14b-instruct" + qwen, "local/demo": "",
			},
		},
		"known by its header": {
			flags: Flags{Model: "model.gguf"}, header: map[string]string{"model": "Qwen2.5 14B Instruct"},
			want: map[string]string{"local": "model" + qwen, "local/model": "model" + qwen, "local/qwen2.5-14b": "model" + qwen},
		},
		"a model to download": {
			flags: Flags{Model: "hf:Qwen/Qwen2.5-14B-Instruct-GGUF:Q4_K_M@main"},
			want:  map[string]string{"local": "qwen2.5-14b-instruct" + qwen, "local/qwen2.5-14b-instruct": "qwen2.5-14b-instruct" + qwen},
		},
		"a model to download, of another server's name": {
			file: "servers: {main: {model: 'hf:bartowski/Qwen2.5-14B-Instruct-GGUF'}}", header: map[string]string{"main": "Something else"},
			want: map[string]string{"local/main": "main" + qwen, "local/qwen2.5-14b-instruct": "main" + qwen, "local/qwen2.5-14b": "main" + qwen},
		},
		"a file to download": {
			flags: Flags{Model: "https://example.com/x/Mine-Q8_0.gguf"},
			want:  map[string]string{"local": "mine > none, 1m0s", "local/mine": "mine > none, 1m0s"},
		},
		"a file of a repository": {
			flags: Flags{Model: "hf:org/repo/folder/Mine-Q8_0-00001-of-00002.gguf"},
			want:  map[string]string{"local": "mine > none, 1m0s"},
		},
		"an unknown model": {
			flags: Flags{Model: "mine.gguf"},
			want:  map[string]string{"local": "mine > none, 1m0s", "local/mine": "mine > none, 1m0s", "local/qwen2.5-14b": ""},
		},
		"the demo": {
			flags: Flags{Demo: true},
			want:  map[string]string{"local": "demo > none, 1m0s", "local/demo": "demo > none, 1m0s"},
		},
		"no server": {want: map[string]string{"local": "", "gpt-4o": "openrouter > none, 2m0s"}},
		"another openrouter": {
			file:  "upstreams: {openrouter: {base_url: 'http://127.0.0.1:1/v1'}}",
			flags: Flags{Model: "qwen2.5-14b.gguf"},
			want:  map[string]string{"local": "qwen2.5-14b" + qwen},
		},
		"the file's route for the server": {
			file:  "routes: {local/mine: {primary: mine, fallback: openrouter, fallback_model: a/b, timeout: 3s}}",
			flags: Flags{Model: "mine.gguf"},
			want:  map[string]string{"local/mine": "mine > openrouter as a/b, 3s", "local": "mine > openrouter as a/b, 3s"},
		},
		"the file's route without fallback": {
			file:  "routes: {local/qwen2.5-14b-instruct: {primary: qwen2.5-14b-instruct}}",
			flags: Flags{Model: "qwen2.5-14b-instruct.gguf"},
			want: map[string]string{
				"local": "qwen2.5-14b-instruct > none, 1m0s", "local/qwen2.5-14b": "qwen2.5-14b-instruct > none, 1m0s",
			},
		},
		"the file's own local": {
			file:  "routes: {local: {primary: openrouter}}",
			flags: Flags{Model: "mine.gguf"},
			want:  map[string]string{"local": "openrouter > none, 2m0s", "local/mine": "mine > none, 1m0s"},
		},
		"one server of the file": {
			file: "servers: {a: {model: a.gguf}}",
			want: map[string]string{"local": "a > none, 1m0s"},
		},
		"two servers": {
			file: "servers: {b: {model: b.gguf}, a: {model: a.gguf}}",
			want: map[string]string{"local": "b > none, 1m0s", "local/a": "a > none, 1m0s", "local/b": "b > none, 1m0s"},
		},
		"two servers, a default": {
			file: "servers: {b: {model: b.gguf}, a: {model: a.gguf, default: true}}",
			want: map[string]string{"local": "a > none, 1m0s"},
		},
		"a default, and one started": {
			file: "servers: {b: {model: b.gguf}, a: {model: a.gguf, default: true}}", flags: Flags{Model: "c.gguf"},
			want: map[string]string{"local": "c > none, 1m0s"},
		},
		"the name of the model's file": {
			file:   "servers: {drafts: {model: /m/Qwen2.5-14B-Instruct-Q4_K_M.gguf}, mail: {model: '/m/My Model.gguf'}, b: {model: drafts.gguf}}",
			header: map[string]string{"drafts": "Qwen2.5 14B Instruct"},
			want: map[string]string{
				"local/drafts": "drafts" + qwen, "local/qwen2.5-14b-instruct": "drafts" + qwen, "local/qwen2.5-14b": "drafts" + qwen,
				"local/mail": "mail > none, 1m0s", "local/my model": "", "local": "drafts" + qwen,
			},
		},
		"two servers with one file": {
			file: "servers: {b: {model: m.gguf}, a: {model: m.gguf}}",
			want: map[string]string{"local/m": "b > none, 1m0s"},
		},
		"two servers, one started": {
			file: "servers: {a: {model: a.gguf}}", flags: Flags{Model: "b.gguf"},
			want: map[string]string{"local": "b > none, 1m0s", "local/a": "a > none, 1m0s"},
		},
		"two of one family": {
			file:   "servers: {a: {model: a.gguf}, b: {model: b.gguf}}",
			header: map[string]string{"a": "Qwen2.5 14B Instruct", "b": "Qwen2.5 14B Instruct"},
			want:   map[string]string{"local/qwen2.5-14b": "a" + qwen, "local/a": "a" + qwen, "local/b": "b" + qwen},
		},
		"of one family the default": {
			file:   "servers: {a: {model: a.gguf}, b: {model: b.gguf, default: true}, c: {model: c.gguf}}",
			header: map[string]string{"a": "Qwen2.5 14B", "b": "Qwen2.5 14B", "c": "Qwen2.5 14B"},
			want:   map[string]string{"local/qwen2.5-14b": "b" + qwen},
		},
		"of one family the started": {
			file: "servers: {a: {model: a.gguf}, c: {model: c.gguf}}", flags: Flags{Model: "b.gguf"},
			header: map[string]string{"a": "Qwen2.5 14B", "b": "Qwen2.5 14B", "c": "Qwen2.5 14B"},
			want:   map[string]string{"local/qwen2.5-14b": "b" + qwen},
		},
		"a server by the short name": {
			file: "servers: {qwen2.5-14b: {model: a.gguf}}", flags: Flags{Model: "qwen2.5-14b-instruct.gguf"},
			want: map[string]string{"local/qwen2.5-14b": "qwen2.5-14b" + qwen, "local": "qwen2.5-14b-instruct" + qwen},
		},
		"timeouts": {
			file:  "routes: {u: {primary: 'http://127.0.0.1:1/v1'}, s: {primary: mine}, o: {primary: openrouter}, x: {primary: openrouter, timeout: 100ms}}",
			flags: Flags{Model: "mine.gguf"},
			want: map[string]string{
				"u": "http://127.0.0.1:1/v1 > none, 2m0s", "s": "mine > none, 1m0s", "o": "openrouter > none, 2m0s", "x": "openrouter > none, 100ms",
			},
		},
		"a server of other boxes": {
			file: "fleet: {nats: 'nats://127.0.0.1:4222', name: a, advertise: 'http://127.0.0.1:8000', key_file: /key}\nroutes: {m: {primary: elsewhere}}",
			want: map[string]string{"m": "elsewhere > none, 1m0s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, tc.file)
			if err := c.Apply(tc.flags); err != nil {
				t.Fatal(err)
			}
			if tc.flags.Demo {
				c.Servers[DemoName] = Server{Model: "demo.gguf", CtxSize: 1}
			}
			if err := c.Resolve(func(server string) string { return tc.header[server] }); err != nil {
				t.Fatal(err)
			}
			for route, want := range tc.want {
				if got := describe(c.Routes[route]); got != want {
					t.Errorf("%s: %s\nwant %s", route, got, want)
				}
			}
		})
	}
}

func describe(r models.Route) string {
	if r.Primary == "" {
		return ""
	}
	fallback := "none"
	if r.Fallback != "" {
		fallback = r.Fallback + " as " + r.FallbackModel
	}
	return r.Primary + " > " + fallback + ", " + r.Timeout.String()
}

// TestResolveErrors checks the errors about well-formed, invalid values.
func TestResolveErrors(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"no such target":       {"routes:\n  a:\n    primary: gpu1", `f.yaml:3: routes.a.primary: there is no server and no upstream "gpu1"; there are openrouter`},
		"no such fallback":     {"routes: {a: {primary: openrouter, fallback: x}}", `f.yaml:1: routes.a.fallback: there is no server and no upstream "x"`},
		"no primary":           {"routes:\n  a: {timeout: 3s}", "f.yaml:2: routes.a.primary: is missing"},
		"an empty route":       {"routes:\n  a:", "f.yaml:2: routes.a.primary: is missing"},
		"negative timeout":     {"routes:\n  a:\n    primary: openrouter\n    timeout: -1s", "f.yaml:4: routes.a.timeout: -1s is not between 100ms and 24h; leave it out for the default"},
		"no time":              {"routes: {a: {primary: openrouter, timeout: 1ns}}", "f.yaml:1: routes.a.timeout: 1ns is not between 100ms and 24h"},
		"endless timeout":      {"routes: {a: {primary: openrouter, timeout: 25h}}", "f.yaml:1: routes.a.timeout: 25h0m0s is not between 100ms and 24h"},
		"lone fallback model":  {"routes: {a: {primary: openrouter, fallback_model: x}}", `f.yaml:1: routes.a.fallback_model: "x" needs a fallback`},
		"fallback on itself":   {"routes: {a: {primary: openrouter, fallback: openrouter}}", `f.yaml:1: routes.a.fallback: "openrouter" is the primary itself`},
		"white space":          {"routes: {'a b': {primary: openrouter}}", "f.yaml:1: routes.a b: a model name has no white space and is not empty"},
		"no name":              {"routes: {'': {primary: openrouter}}", "f.yaml:1: routes.: a model name has no white space and is not empty"},
		"ftp":                  {"routes: {a: {primary: 'ftp://x/'}}", `f.yaml:1: routes.a.primary: is not a base URL`},
		"no context":           {"servers:\n  a:\n    model: m\n    ctx_size: 0", "f.yaml:4: servers.a.ctx_size: 0 is not a number of tokens; the default is 8192"},
		"no context, merged":   {"servers:\n  a: &a {model: m, ctx_size: 0}\n  b: {<<: *a}", "f.yaml:2: servers.a.ctx_size: 0 is not"},
		"no repository":        {"servers: {a: {model: 'hf:org'}}", "f.yaml:1: servers.a.model: \"hf:org\" does not name a repository"},
		"a signed URL":         {"servers: {a: {model: 'https://x.example/a.gguf?sig=SECRET'}}", "f.yaml:1: servers.a.model: the URL has a query, which may be secret or expire"},
		"negative layers":      {"servers: {a: {model: m, n_gpu_layers: -1}}", "f.yaml:1: servers.a.n_gpu_layers: -1 is not a number of layers"},
		"two defaults":         {"servers:\n  b: {model: m, default: true}\n  a: {model: m, default: true}", "f.yaml:3: servers.a.default: the server b is the default already; set it for only one server"},
		"no model":             {"servers:\n  a: {ctx_size: 1}", "f.yaml:2: servers.a.model: is missing; set the path of the GGUF file"},
		"owned argument":       {"servers:\n  a:\n    model: m\n    args:\n      - --port\n      - '1'", "f.yaml:4: servers.a.args: llama-server's --port cannot be passed on: "},
		"a name with a slash":  {"servers: {a/b: {model: m}}", "f.yaml:1: servers.a/b: a server's name has at most 100"},
		"two of one name":      {"servers: {openrouter: {model: m}}", "f.yaml:1: servers.openrouter: an upstream has the same name"},
		"an upstream's slash":  {"upstreams: {a/b: {base_url: 'http://x'}}", "f.yaml:1: upstreams.a/b: an upstream's name has at most 100"},
		"a URL for a name":     {"upstreams: {'http://x': {base_url: 'http://x'}}", "f.yaml:1: upstreams.http://x: an upstream's name has at most 100"},
		"no base URL":          {"upstreams:\n  a: {api_key_env: X}", "f.yaml:2: upstreams.a.base_url: is missing"},
		"a relative base URL":  {"upstreams: {a: {base_url: x/v1}}", `f.yaml:1: upstreams.a.base_url: is not a base URL`},
		"a base URL's query":   {"upstreams: {a: {base_url: 'http://x/?a=b'}}", "f.yaml:1: upstreams.a.base_url: has a user, a query or a fragment"},
		"two keys":             {"upstreams: {a: {base_url: 'http://x', api_key_env: X, api_key_file: y}}", "f.yaml:1: upstreams.a.api_key_file: api_key_env is also set; remove one of them"},
		"listen without port":  {"\nlisten: localhost", `f.yaml:2: listen: "localhost" is not HOST:PORT`},
		"listen beyond":        {"listen: localhost:65536", `f.yaml:1: listen: "localhost:65536" has no port between 0 and 65535`},
		"an empty state_dir":   {"state_dir: ''", "f.yaml:1: state_dir: is empty; set a path"},
		"the first of several": {"servers: {b: {model: ''}, a: {model: ''}, c: {model: ''}}", "f.yaml:1: servers.a.model: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			err := mustParse(t, tc.file).Resolve(noHeader)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestErrorsOfFlagsHaveNoLine: a value that a flag has put in place of the
// file's stands in no line of it.
func TestErrorsOfFlagsHaveNoLine(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config) error
		want   string
	}{
		"listen": {func(c *Config) error { c.Listen = "nowhere"; return nil }, `listen: "nowhere" is not HOST:PORT`},
		"ctx_size": {func(c *Config) error {
			n := -1
			return c.Apply(Flags{CtxSize: &n})
		}, "servers.a.ctx_size: -1 is not a number of tokens"},
		"state_dir": {func(c *Config) error { c.StateDir = ""; return nil }, "state_dir: is empty"},
	} {
		c := mustParse(t, "listen: 127.0.0.1:1\nstate_dir: /x\nservers: {a: {model: m, ctx_size: 5}}")
		if err := tc.change(c); err != nil {
			t.Fatal(err)
		}
		if err := c.Resolve(noHeader); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v\nwant %s", name, err, tc.want)
		}
	}
}

func TestResolveDefaults(t *testing.T) {
	c := Default()
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	for name, r := range c.Routes {
		if r.Timeout != 120*time.Second {
			t.Errorf("%s: %v", name, r.Timeout)
		}
	}
}
