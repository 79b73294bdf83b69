package models

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Route says where the calls for one model name, or for every name that one
// pattern matches, go.
type Route struct {
	Name          string        `yaml:"-"`              // the exact name, or a pattern with *
	Primary       string        `yaml:"primary"`        // a server's name, an upstream's name, or a base URL
	PrimaryModel  string        `yaml:"primary_model"`  // "" = the server's own name for a server; elsewhere the name as the client wrote it
	Fallback      string        `yaml:"fallback"`       // like Primary; "" = none, or those of Fallbacks
	FallbackModel string        `yaml:"fallback_model"` // like PrimaryModel
	Fallbacks     []Fallback    `yaml:"fallbacks"`      // more than one, in the order in which calls go to them; use FallbackList to read either
	Timeout       time.Duration `yaml:"timeout"`        // from the handing over to Primary to its first answer; 0 = the default for its kind
	Resume        bool          `yaml:"resume"`         // a stream that Primary breaks is continued by Fallback
	FallbackOn    WordList      `yaml:"fallback_on"`    // the reasons for which a call goes to Fallback; none = for every one
}

// Fallback is a backend that serves a route's calls when those before it cannot.
type Fallback struct {
	To    string `yaml:"to"`    // like Route.Primary
	Model string `yaml:"model"` // like Route.PrimaryModel
}

// FallbackList returns the route's fallbacks in their order, whether the
// configuration has `fallback` or `fallbacks`.
func (r Route) FallbackList() []Fallback {
	if r.Fallback != "" {
		return []Fallback{{To: r.Fallback, Model: r.FallbackModel}}
	}
	return r.Fallbacks
}

// Upstream is an endpoint that llmsup does not run.
type Upstream struct {
	BaseURL    string  `yaml:"base_url"`     // what an OpenAI SDK takes as its base URL
	APIKeyEnv  string  `yaml:"api_key_env"`  // the environment variable that holds its key
	APIKeyFile string  `yaml:"api_key_file"` // the file that does
	Billing    Billing `yaml:"billing"`      // "" = Metered if it has a key, else Free
	Referer    string  `yaml:"http_referer"` // the application's URL, where a call does not name one (OpenRouter's statistics)
	Title      string  `yaml:"x_title"`      // its name
}

// Billing says whether calls to an upstream cost money.
type Billing string

// What Billing may be.
const (
	Metered Billing = "metered" // every call may cost money: budgets apply, and a call is sent at most once
	Free    Billing = "free"    // no call costs money
)

// BillingWith returns how the upstream bills calls, given whether it has a key.
func (u Upstream) BillingWith(hasKey bool) Billing {
	switch {
	case u.Billing != "":
		return u.Billing
	case hasKey:
		return Metered
	}
	return Free
}

// Names that are meant for the local GPU.
const (
	LocalPrefix = "local/" // and the name of a server or of its model
	LocalName   = "local"  // the first server
)

// Table finds the route of a model name. It is immutable.
type Table struct {
	exact    map[string]Route
	patterns []Route // the longest first
}

// NewTable makes a table of routes by their names and patterns.
func NewTable(routes map[string]Route) (*Table, error) {
	t := &Table{exact: map[string]Route{}}
	for name, route := range routes {
		if name == "" {
			return nil, errors.New("a route needs a name")
		}
		if route.Primary == "" {
			return nil, fmt.Errorf("route %q needs a primary", name)
		}
		route.Name = name
		if strings.Contains(name, "*") {
			t.patterns = append(t.patterns, route)
		} else {
			t.exact[name] = route
		}
	}
	slices.SortFunc(t.patterns, func(a, b Route) int {
		return cmp.Or(cmp.Compare(literals(b.Name), literals(a.Name)), cmp.Compare(a.Name, b.Name))
	})
	return t, nil
}

// literals counts the characters of a pattern that are not *: how much a name
// has to have in common with it.
func literals(pattern string) int { return len(pattern) - strings.Count(pattern, "*") }

// Lookup finds the route of a model name: the exact name's, else that of the
// longest pattern that matches. A name under "local/" is never caught by a
// pattern of other names: a misspelt local model has to be an error, not a
// paid call.
func (t *Table) Lookup(model string) (Route, bool) {
	if route, ok := t.exact[model]; ok {
		return route, true
	}
	for _, route := range t.patterns {
		if strings.HasPrefix(model, LocalPrefix) && !strings.HasPrefix(route.Name, LocalPrefix) {
			continue
		}
		if Match(route.Name, model) {
			return route, true
		}
	}
	return Route{}, false
}

// Serves says whether some name that fits a pattern, or is it, has a route.
func (t *Table) Serves(pattern string) bool {
	if !strings.Contains(pattern, "*") {
		_, ok := t.Lookup(pattern)
		return ok
	}
	for name := range t.exact {
		if Match(pattern, name) {
			return true
		}
	}
	return slices.ContainsFunc(t.patterns, func(route Route) bool {
		return (strings.HasPrefix(route.Name, LocalPrefix) || !strings.HasPrefix(pattern, LocalPrefix)) && overlap(route.Name, pattern)
	})
}

// Routes returns all routes: exact names first, then patterns, each sorted.
func (t *Table) Routes() []Route {
	byName := func(a, b Route) int { return cmp.Compare(a.Name, b.Name) }
	routes := make([]Route, 0, len(t.exact)+len(t.patterns))
	for _, route := range t.exact {
		routes = append(routes, route)
	}
	slices.SortFunc(routes, byName)
	patterns := slices.SortedFunc(slices.Values(t.patterns), byName)
	return append(routes, patterns...)
}

// Names returns what Routes does, by name.
func (t *Table) Names() []string {
	var names []string
	for _, route := range t.Routes() {
		names = append(names, route.Name)
	}
	return names
}

// Match says whether a name fits a pattern, in which * stands for any run of
// characters, "/" and none included. It takes time linear in the name's length
// times the number of stars.
func Match(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return pattern == name
	}
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return true
}

// overlap says whether some name fits both patterns. It takes time linear in the
// product of their lengths.
func overlap(a, b string) bool {
	fit := make([]bool, len(b)+1) // whether a[i:] and b[j:] overlap, by j
	for i := len(a); i >= 0; i-- {
		shorter := false // whether a[i+1:] and b[j+1:] do
		for j := len(b); j >= 0; j-- {
			below := fit[j] // whether a[i+1:] and b[j:] do
			switch {
			case i == len(a) && j == len(b):
				fit[j] = true
			case i < len(a) && a[i] == '*':
				fit[j] = below || j < len(b) && fit[j+1]
			case j < len(b) && b[j] == '*':
				fit[j] = fit[j+1] || i < len(a) && below
			default:
				fit[j] = i < len(a) && j < len(b) && a[i] == b[j] && shorter
			}
			shorter = below
		}
	}
	return fit[0]
}
