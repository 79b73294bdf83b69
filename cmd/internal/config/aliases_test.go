package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
)

// TestAliases: a name, and the route that an alias of the file gives it.
func TestAliases(t *testing.T) {
	const servers = "servers: {qwen2.5-14b: {model: m.gguf}, mini: {model: n.gguf}}\n"
	for name, tc := range map[string]struct {
		file string
		want map[string]string
	}{
		"instead of a built-in route": {
			"routes: {drafts: {primary: mini, aliases: [gpt-4o-mini, best]}}",
			map[string]string{"gpt-4o-mini": "drafts", "best": "drafts", "drafts": "drafts", "gpt-4o": "gpt-4o", "local/mini": "local/mini"},
		},
		"instead of a pattern": {
			"routes: {drafts: {primary: mini, aliases: [openai/gpt-5]}}",
			map[string]string{"openai/gpt-5": "drafts", "openai/gpt-4": "*/*"},
		},
		"instead of a server's routes": {
			"routes: {drafts: {primary: mini, aliases: [local, local/qwen2.5-14b, local/m]}}",
			map[string]string{"local": "drafts", "local/qwen2.5-14b": "drafts", "local/m": "drafts", "local/mini": "local/mini"},
		},
		"names of the route's server": {
			"routes: {local/qwen2.5-14b: {primary: qwen2.5-14b, aliases: [best]}}",
			map[string]string{"best": "local/qwen2.5-14b", "local": "local", "local/m": "local/m"},
		},
	} {
		c := mustParse(t, servers+tc.file)
		if err := c.Resolve(noHeader); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		table, err := c.Table()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for model, want := range tc.want {
			if route, _ := table.Lookup(model); route.Name != want {
				t.Errorf("%s: %s has the route %q, want %q", name, model, route.Name, want)
			}
		}
	}
}

// TestRouteOfAliasedServer: where an alias has taken a server's own name, the server's other
// names have the alias's route, too, as where a route of the file has it.
func TestRouteOfAliasedServer(t *testing.T) {
	c := mustParse(t, "servers: {qwen: {model: m.gguf}}\nroutes: {fast: {primary: qwen, fallback: openrouter, fallback_model: a/b, aliases: [local/qwen]}}")
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"local", "local/m"} {
		if got := c.Routes[name]; got.Fallback != "openrouter" || got.Aliases != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAliasErrors(t *testing.T) {
	for text, want := range map[string]string{
		"aliases: [a, b, a]}":   `f.yaml:2: routes.r.aliases: "a" is in the list twice; keep one`,
		"aliases: [r]}":         `f.yaml:2: routes.r.aliases: "r" is the route's own name; remove it here`,
		"aliases: [s]}":         `f.yaml:2: routes.r.aliases: "s" is a route of its own in this file; keep the route or the alias`,
		"aliases: ['gpt-*']}":   `f.yaml:2: routes.r.aliases: an alias is the exact name of a model, without white space and *`,
		"aliases: ['']}":        `f.yaml:2: routes.r.aliases: an alias is the exact name of a model`,
		"aliases: [a b]}":       `f.yaml:2: routes.r.aliases: an alias is the exact name of a model`,
		"aliases: a}":           `f.yaml:2: wrong kind of value; want a list`,
		"alias: [a]}":           `f.yaml:2: unknown key "alias"; did you mean "aliases"?`,
		"aliases: [a,\n    s]}": `f.yaml:3: routes.r.aliases: "s" is a route`,
		"aliases: [a]}\n  q: {primary: openrouter, aliases: [a]}":     `f.yaml:4: routes.q.aliases: "a" is an alias of the route r already; keep one`,
		"aliases: [a]}\n  'b/*': {primary: openrouter, aliases: [c]}": `f.yaml:4: routes.b/*.aliases: a pattern has no aliases; make a route with an exact name for "c"`,
	} {
		c, err := Parse("f.yaml", []byte("routes:\n  r: {primary: openrouter, "+strings.Replace(text, "}", "}\n  s: {primary: openrouter}", 1)))
		if err == nil {
			err = c.Resolve(noHeader)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v\nwant %s", text, err, want)
		}
	}
}

// TestKeysOfAliases: a key may have an alias in its routes.
func TestKeysOfAliases(t *testing.T) {
	c := mustParse(t, "routes: {drafts: {primary: openrouter, aliases: [best]}}\nkeys: {tool: {sha256: "+hashA+", routes: [best, \"be*\"]}}")
	if err := c.Resolve(noHeader); err != nil {
		t.Error(err)
	}
}

// TestRouteChanges: a reload reports routes whose aliases or edits have changed.
func TestRouteChanges(t *testing.T) {
	const same = ", same: {primary: openrouter, aliases: [b], set: {x: {y: 1}}, fallbacks: [{to: http://a/v1, strip: [z]}]}}"
	before := mustParse(t, "routes: {r: {primary: openrouter}, s: {primary: openrouter, set: {x: 1}}"+same)
	after := mustParse(t, "routes: {r: {primary: openrouter, aliases: [a]}, s: {primary: openrouter, set: {x: 1.0}}"+same)
	for _, c := range []*Config{before, after} {
		if err := c.Resolve(noHeader); err != nil {
			t.Fatal(err)
		}
	}
	if got := after.Changes(before); !slices.Equal(got, []string{"route r: changed", "route s: changed"}) {
		t.Errorf("%q", got)
	}
	if _, err := models.NewTable(after.Routes); err != nil {
		t.Error(err)
	}
}
