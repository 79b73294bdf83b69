package fleetconfig

import (
	"reflect"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

func TestExtract(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"only these sections": {"listen: 127.0.0.1:1\nbudget: {daily: 5}\nservers: {a: {model: /x}}\n", "budget: {daily: 5}\n"},
		"comments": {
			"# the box\nlisten: 127.0.0.1:1\n\n# where calls go\nroutes:\n  # ours\n  m:\n    primary: openrouter # paid\n",
			"# where calls go\nroutes:\n  # ours\n  m:\n    primary: openrouter # paid\n",
		},
		"an anchor elsewhere":  {"upstreams: {x: {base_url: &u 'http://h/v1'}}\nroutes: {m: {primary: *u}}\n", "routes: {m: {primary: 'http://h/v1'}}\n"},
		"an anchor and merges": {"routes:\n  a: &a\n    primary: openrouter\n  b:\n    <<: *a\n    timeout: 5s\n", "routes:\n  a:\n    primary: openrouter\n  b:\n    <<:\n      primary: openrouter\n    timeout: 5s\n"},
		"lines of pulls": {
			"# version 3, which ann@gpu1 pushed 2026-11-30 12:20:18\n# version 2, which ann@gpu1 pushed 2026-11-29 12:20:18\n# ours\nbudget: {daily: 5}\n",
			"# ours\nbudget: {daily: 5}\n",
		},
		"an empty section": {"keys:\nroutes: {}\n", "routes: {}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Extract("f.yaml", []byte(tc.text))
			if err != nil || got != tc.want {
				t.Errorf("%v\n%s\nwant\n%s", err, got, tc.want)
			}
			sameSections(t, tc.text, got)
		})
	}
}

func TestSecrets(t *testing.T) {
	const route = "routes:\n  m:\n    primary: openrouter\n"
	for text, line := range map[string]string{
		route: "",
		"keys: {a: {sha256: " + strings.Repeat("0f", 32) + "}}":                                       "",
		"routes: {sk-telecom/model: {primary: openrouter}, llmsup-2: {primary: openrouter}}":          "",
		route + "    set: {user: sk-or-v1-00112233445566778899}":                                      "f.yaml:4:",
		route + "    # Authorization: Bearer 00112233445566778899\n    timeout: 5s":                   "f.yaml:",
		route + "    primary_model: hf_00112233445566778899":                                          "f.yaml:4:",
		"routes:\n  llmsup-ABCDEFGHIJKLMNOPQRSTUVWXYZ: {primary: openrouter}":                         "f.yaml:2:",
		route + "    set: {user: SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM}":         "f.yaml:4:",
		route + "    set:\n      user: |\n        -----BEGIN PRIVATE KEY-----\n        x":             "f.yaml:5:",
		"upstreams: {x: {base_url: 'http://h/v1', x_title: sk-or-v1-00112233445566778899}}\n" + route: "",
	} {
		_, err := Extract("f.yaml", []byte(text))
		if line == "" && err != nil || line != "" && (err == nil || !strings.HasPrefix(err.Error(), line) || strings.Contains(err.Error(), "0011")) {
			t.Errorf("%v, want %q for\n%s", err, line, text)
		}
	}
}

// sameSections checks that the sections of two texts mean the same.
func sameSections(t *testing.T, file, extracted string) {
	t.Helper()
	read := func(text string) *config.Config {
		s, err := config.ParseShared("f", []byte(text), 1)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		c := config.Default()
		c.Use(s)
		c.Shared = nil // it has positions
		return &c
	}
	a, b := read(file), read(extracted)
	if !reflect.DeepEqual(a.Keys, b.Keys) || !reflect.DeepEqual(a.Routes, b.Routes) || !reflect.DeepEqual(a.FleetBudget, b.FleetBudget) {
		t.Errorf("the sections differ:\n%s\n%s", file, extracted)
	}
}

func FuzzExtract(f *testing.F) {
	for _, text := range []string{
		"routes: {m: {primary: openrouter, set: {a: [1, null, 'x']}}}", "keys: {a: {sha256: x, routes: []}}\nbudget: {daily: 0.5, per_key: {a: {monthly: 1}}}",
		"x: &a {primary: b}\nroutes: {m: *a}", "routes:\n  a: &a {primary: x}\n  b: {<<: [*a], timeout: 1s}", "routes: {? a : {primary: !!str 12}}", "? routes\n: {}",
		"budget: &b {daily: 1}\nroutes: {}\n# end", "routes: {\"a\\nb\": {primary: |-\n  x\n  }}", "keys: !!map {}\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := config.ParseShared("f", []byte(text), 1); err != nil {
			return
		}
		extracted, err := Extract("f", []byte(text))
		if err != nil {
			return
		}
		sameSections(t, text, extracted)
	})
}
