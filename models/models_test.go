package models

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLookup(t *testing.T) {
	routes := map[string]Route{}
	for _, name := range []string{"gpt-4o", "*/*", "anthropic/*", "anthropic/claude-*", "anthropic/claude-3", "local/a", "gpt-*", "*-mini", "a*b*c"} {
		routes[name] = Route{Primary: "p"}
	}
	table, err := NewTable(routes)
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]string{
		"gpt-4o":               "gpt-4o",
		"gpt-4o-mini":          "*-mini", // five characters against four
		"gpt-4":                "gpt-*",
		"anthropic/claude-3":   "anthropic/claude-3",
		"anthropic/claude-3.5": "anthropic/claude-*",
		"anthropic/x":          "anthropic/*",
		"anthropic/":           "anthropic/*",
		"vendor/model":         "*/*",
		"vendor/model:free/x":  "*/*",
		"a1b2c":                "a*b*c",
		"abc":                  "a*b*c",
		"abcd":                 "",
		"local/a":              "local/a",
		"local/b":              "", // never a paid call by mistake
		"local/x-mini":         "",
		"nonsense":             "",
		"":                     "",
		"GPT-4O":               "",
	} {
		route, ok := table.Lookup(model)
		if route.Name != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %q, %t; want %q", model, route.Name, ok, want)
		}
	}
	if got := table.Names(); !slices.Equal(got[:3], []string{"anthropic/claude-3", "gpt-4o", "local/a"}) {
		t.Errorf("names %q: exact ones first, sorted", got)
	}
}

func TestLookupOfLocalPatterns(t *testing.T) {
	table, err := NewTable(map[string]Route{"local/*": {Primary: "p"}, "*": {Primary: "q"}})
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]string{"local/x": "local/*", "x": "*", "local": "*"} {
		if route, _ := table.Lookup(model); route.Name != want {
			t.Errorf("Lookup(%q) = %q, want %q", model, route.Name, want)
		}
	}
}

func TestLookupOfAliases(t *testing.T) {
	table, err := NewTable(map[string]Route{"a": {Primary: "p", Aliases: []string{"x/y", "b"}}, "c": {Primary: "p"}, "*/*": {Primary: "q"}})
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]string{"x/y": "a as a", "b": "a as a", "a": "a as a", "x/z": "*/* as x/z"} {
		route, _ := table.Lookup(model)
		if got := route.Name + " as " + route.ModelName(model); got != want {
			t.Errorf("%s: %s, want %s", model, got, want)
		}
	}
	if got := table.Names(); !slices.Equal(got, []string{"a", "b", "c", "x/y", "*/*"}) {
		t.Errorf("names %q", got)
	}
	if got := table.Routes(); len(got) != 3 || got[0].Name != "a" || got[1].Name != "c" || got[2].Name != "*/*" {
		t.Errorf("routes %+v", got)
	}
	for name, routes := range map[string]map[string]Route{
		"the name of a route": {"a": {Primary: "p", Aliases: []string{"b"}}, "b": {Primary: "p"}},
		"its own name":        {"a": {Primary: "p", Aliases: []string{"a"}}},
		"twice":               {"a": {Primary: "p", Aliases: []string{"x", "x"}}},
		"of two routes":       {"a": {Primary: "p", Aliases: []string{"x"}}, "b": {Primary: "p", Aliases: []string{"x"}}},
		"a pattern":           {"a": {Primary: "p", Aliases: []string{"x*"}}},
		"of a pattern":        {"a*": {Primary: "p", Aliases: []string{"x"}}},
	} {
		if _, err := NewTable(routes); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestServes: of a pattern as well, and a local name is served by no pattern of
// other names.
func TestServes(t *testing.T) {
	table, err := NewTable(map[string]Route{"gpt-4o": {Primary: "p"}, "local/box": {Primary: "p"}, "*/*": {Primary: "p"}, "claude-*-latest": {Primary: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]bool{
		"gpt-4o": true, "gpt-4.1": false, "local/box": true, "local/typo": false, "local/b*": true, "local/typo*": false, "local/*": true,
		"a/b": true, "a/*": true, "*": true, "gpt-*": true, "*-4o": true, "claude-3*": true, "": false, "claude-3-latest": true, "claude-3": false,
	} {
		if got := table.Serves(pattern); got != want {
			t.Errorf("%q: %t", pattern, got)
		}
	}
	empty, _ := NewTable(nil)
	if empty.Serves("*") {
		t.Error("a table without routes serves something")
	}
}

// FuzzOverlap compares the overlap of two patterns with the plainest search for a name.
func FuzzOverlap(f *testing.F) {
	f.Add("a*", "*b")
	f.Add("*a*", "b")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 8 || len(b) > 8 {
			return
		}
		if got, want := overlap(a, b), overlapSlowly(a, b); got != want || overlap(b, a) != got {
			t.Errorf("overlap(%q, %q) = %t, want %t", a, b, got, want)
		}
	})
}

func overlapSlowly(a, b string) bool {
	switch {
	case a == "" && b == "":
		return true
	case a != "" && a[0] == '*':
		return overlapSlowly(a[1:], b) || b != "" && overlapSlowly(a, b[1:])
	case b != "" && b[0] == '*':
		return overlapSlowly(b, a)
	}
	return a != "" && b != "" && a[0] == b[0] && overlapSlowly(a[1:], b[1:])
}

func TestLookupIsDeterministic(t *testing.T) {
	routes := map[string]Route{"x*": {Primary: "1"}, "*y": {Primary: "2"}}
	for range 50 {
		table, _ := NewTable(routes)
		if route, _ := table.Lookup("xy"); route.Name != "*y" {
			t.Fatalf("got %q", route.Name)
		}
	}
}

func TestBadTables(t *testing.T) {
	for name, routes := range map[string]map[string]Route{
		"no name": {"": {Primary: "p"}}, "no primary": {"x": {}},
	} {
		if _, err := NewTable(routes); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzMatches compares the matcher with the plainest one there is.
func FuzzMatches(f *testing.F) {
	f.Add("a*b", "aXb")
	f.Add("*/*", "a/b")
	f.Add("aa*aa", "aaa")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 16 {
			return
		}
		if got, want := Match(pattern, name), slowly(pattern, name); got != want {
			t.Errorf("Match(%q, %q) = %t, want %t", pattern, name, got, want)
		}
	})
}

func slowly(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return slowly(pattern[1:], name) || name != "" && slowly(pattern, name[1:])
	}
	return name != "" && pattern[0] == name[0] && slowly(pattern[1:], name[1:])
}

func TestBuiltin(t *testing.T) {
	b := LoadBuiltin()
	table, err := NewTable(b.Routes)
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]Route{
		"gpt-4o":                      {Name: "gpt-4o", PrimaryModel: "openai/gpt-4o"},
		"gpt-4o-mini":                 {Name: "gpt-4o-mini", PrimaryModel: "openai/gpt-4o-mini"},
		"claude-3.5-sonnet":           {Name: "claude-3.5-sonnet", PrimaryModel: "anthropic/claude-3.5-sonnet"},
		"anthropic/claude-3.5-sonnet": {Name: "*/*"},
	} {
		want.Primary, want.Timeout = "openrouter", 120*time.Second
		if got, _ := table.Lookup(model); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", model, got, want)
		}
	}
	if u := b.Upstreams["openrouter"]; u.BaseURL != "https://openrouter.ai/api/v1" || u.APIKeyEnv != "OPENROUTER_API_KEY" {
		t.Errorf("openrouter: %+v", u)
	}
	for name := range b.Upstreams {
		for route, r := range b.Routes {
			if r.Primary != name {
				t.Errorf("route %s leads to %s, which is no upstream", route, r.Primary)
			}
		}
	}
}

func TestServerName(t *testing.T) {
	for file, want := range map[string]string{
		"Qwen2.5-14B-Instruct-Q4_K_M-00001-of-00003.gguf": "qwen2.5-14b-instruct",
		"/srv/models/qwen2.5-14b-instruct-q4_k_m.gguf":    "qwen2.5-14b-instruct",
		"qwen2.5-14b-instruct-q4_k_m-00001-of-00003.gguf": "qwen2.5-14b-instruct",
		"Llama-3.3-70B-Instruct.Q8_0.gguf":                "llama-3.3-70b-instruct",
		"model-IQ2_XXS.gguf":                              "model",
		"model-IQ4_NL.GGUF":                               "model",
		"model-F16.gguf":                                  "model",
		"model.fp16.gguf":                                 "model",
		"model-BF16.gguf":                                 "model",
		"Qwen3-30B-A3B-UD-Q4_K_XL.gguf":                   "qwen3-30b-a3b",
		"gpt-oss-20b-mxfp4.gguf":                          "gpt-oss-20b",
		"bitnet-TQ1_0.gguf":                               "bitnet",
		"phi-3-Q4_0_4_4.gguf":                             "phi-3",
		"plain.gguf":                                      "plain",
		"noext":                                           "noext",
		"Q4_K_M.gguf":                                     "q4_k_m",
		"qwen2.5-14b.gguf":                                "qwen2.5-14b",
	} {
		if got := ServerName(file); got != want {
			t.Errorf("ServerName(%q) = %q, want %q", file, got, want)
		}
	}
}

func TestQuantization(t *testing.T) {
	for name, want := range map[string]string{
		"Qwen2.5-14B-Instruct-q4_k_m-00001-of-00003": "Q4_K_M",
		"Llama-3.3-70B-Instruct.Q8_0":                "Q8_0",
		"Qwen3-30B-A3B-UD-Q4_K_XL":                   "UD-Q4_K_XL",
		"UD-IQ1_S":                                   "UD-IQ1_S",
		"Q4_K_M":                                     "Q4_K_M",
		"model-BF16":                                 "BF16",
		"gpt-oss-20b-mxfp4":                          "MXFP4",
		"qwen2.5-14b":                                "",
		"model-imatrix":                              "",
	} {
		if got := Quantization(name); got != want {
			t.Errorf("Quantization(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestFamilyOf(t *testing.T) {
	b := LoadBuiltin()
	for _, tc := range []struct{ server, header, want string }{
		{"qwen2.5-14b-instruct", "", "qwen2.5-14b"},
		{"qwen2.5-14b", "", "qwen2.5-14b"},
		{"qwen_qwen2.5-14b-instruct", "", "qwen2.5-14b"},
		{"qwen2.5-14b-instruct-1m", "", "qwen2.5-14b"},
		{"qwen-2.5-14b-instruct", "", "qwen2.5-14b"},
		{"qwen2.5-14b_instruct", "", "qwen2.5-14b"},
		{"qwen2.5-14b.imatrix", "", "qwen2.5-14b"},
		{"qwen2.5-14bx", "", ""},
		{"qwen2.5-vl-7b-instruct", "Qwen2.5 VL 7B Instruct", ""},
		{"qwen2.5-coder-14b", "Qwen2.5 Coder 14B Instruct", ""},
		{"llama-3.3-70b-instruct", "Llama 3.3 70B Instruct", "llama-3.3-70b"},
		{"deepseek-r1-distill-llama-8b", "DeepSeek R1 Distill Llama 8B", ""},
		{"model", "Qwen2.5 14B Instruct", "qwen2.5-14b"},
		{"model", "Qwen2.5-14B-Instruct-GGUF", "qwen2.5-14b"},
		{"meta-llama-3.1-8b-instruct", "", "llama-3.1-8b"},
		{"qwen2.5-coder-14b-instruct", "", ""},
		{"qwen2.5-coder-32b-instruct", "", "qwen2.5-coder-32b"},
		{"deepseek-r1-distill-qwen2.5-14b", "DeepSeek R1 Distill Qwen 14B", ""},
		{"qwen2.5-140b", "", ""},
		{"qwen2-14b", "", ""},
		{"model", "", ""},
	} {
		got, ok := b.FamilyOf(tc.server, tc.header)
		if got.ShortName != tc.want || ok != (tc.want != "") {
			t.Errorf("FamilyOf(%q, %q) = %q, want %q", tc.server, tc.header, got.ShortName, tc.want)
		}
	}
	seen := map[string]bool{}
	for _, family := range b.Families {
		if seen[family.ShortName] || !strings.Contains(family.FallbackModel, "/") {
			t.Errorf("family %s: doubled, or without a fallback model", fmt.Sprint(family))
		}
		seen[family.ShortName] = true
	}
}

func TestFallbackList(t *testing.T) {
	list := []Fallback{{To: "box2"}, {To: "openrouter", Model: "a/b"}}
	for name, tc := range map[string]struct {
		route Route
		want  []Fallback
	}{
		"none":     {Route{Primary: "p"}, nil},
		"fallback": {Route{Primary: "p", Fallback: "openrouter", FallbackModel: "a/b"}, list[1:]},
		"list":     {Route{Primary: "p", Fallbacks: list}, list},
	} {
		if got := tc.route.FallbackList(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestBillingWith(t *testing.T) {
	for _, tc := range []struct {
		billing Billing
		hasKey  bool
		want    Billing
	}{{"", true, Metered}, {"", false, Free}, {Metered, false, Metered}, {Free, true, Free}} {
		if got := (Upstream{Billing: tc.billing}).BillingWith(tc.hasKey); got != tc.want {
			t.Errorf("billing %q, key %t: %s, want %s", tc.billing, tc.hasKey, got, tc.want)
		}
	}
}
