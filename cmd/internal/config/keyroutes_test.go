package config

import (
	"strings"
	"testing"
)

// TestCheckKeyRoutes: a name that no route can ever serve is a mistake; a pattern
// that leaves a model out today is not.
func TestCheckKeyRoutes(t *testing.T) {
	const server = "servers: {box: {model: m.gguf}}\n"
	none := func(string) bool { return false }
	for name, tc := range map[string]struct {
		file   string
		routes string
		listed func(string) bool
		wrong  string // "" = nothing
	}{
		"a route":               {server, "[gpt-4o, local/box, local/m]", none, ""},
		"all":                   {"", `["*"]`, none, ""},
		"local names":           {"", `[local, "local/*"]`, none, ""},
		"a typo of a server":    {server, "[local/box, local/bix]", nil, "local/bix"},
		"a typo of a route":     {"", "[gtp-4o]", none, "gtp-4o"},
		"the list is not known": {"", "[gpt-4.1]", nil, ""},
		"a listed name":         {"", "[gpt-4.1]", func(bare string) bool { return bare == "gpt-4.1" }, ""},
		"with its vendor":       {"", "[openai/gpt-4.1, \"anthropic/*\"]", none, ""},
		"a pattern of typos":    {server, `["local/bix*"]`, nil, "local/bix*"},
		"a key":                 {"", "[llmsup-AAAAAAAAAAAAAAAAAAAAAAAAAA]", none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, tc.file+"keys:\n  tool:\n    sha256: "+hashA+"\n    routes: "+tc.routes+"\n")
			err := c.Resolve(noHeader)
			if err == nil {
				err = c.CheckKeyRoutes(tc.listed)
			}
			switch {
			case name == "a key":
				if err == nil || strings.Contains(err.Error(), "AAAA") {
					t.Errorf("%v", err)
				}
			case tc.wrong == "" && err != nil, tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), ": keys.tool.routes: no route serves \""+tc.wrong+"\"; there are ")):
				t.Errorf("%v, want %q", err, tc.wrong)
			}
		})
	}
	c := mustParse(t, "keys:\n  tool:\n    sha256: "+hashA+"\n    routes:\n      - gpt-4o\n      - local/typo\n")
	if err := c.Resolve(noHeader); err == nil || !strings.HasPrefix(err.Error(), "f.yaml:6: keys.tool.routes: no route serves \"local/typo\"; there are claude-3.5-sonnet, gpt-4o, gpt-4o-mini, */*") {
		t.Errorf("%v", err)
	}
}
