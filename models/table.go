package models

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Route has the backends for the calls of one model name, or of all names that match one
// pattern.
type Route struct {
	Name          string        `yaml:"-"`              // the exact name, or a pattern with *
	Aliases       []string      `yaml:"aliases"`        // other exact names of the route
	Primary       string        `yaml:"primary"`        // a server's name, an upstream's name, or a base URL
	PrimaryModel  string        `yaml:"primary_model"`  // "" = for a server its own name, else the client's name
	Fallback      string        `yaml:"fallback"`       // like Primary; "" = none, or those of Fallbacks
	FallbackModel string        `yaml:"fallback_model"` // like PrimaryModel
	Fallbacks     []Fallback    `yaml:"fallbacks"`      // more than one, in the order in which calls go to them; use FallbackList to read either
	Timeout       time.Duration `yaml:"timeout"`        // from sending the call to Primary to the first content of its answer; 0 = the default for its kind
	Resume        bool          `yaml:"resume"`         // Fallback continues a stream that Primary breaks
	FallbackOn    WordList      `yaml:"fallback_on"`    // the reasons for which a call goes to Fallback; empty = all
	WhileLoading  WhileLoading  `yaml:"while_loading"`  // whether a call waits while Primary loads its model

	*Edits `yaml:",inline"` // of the calls' parameters; nil = none
}

// ModelName returns the model's name at those backends that keep the name of the call: the
// name itself or, of an alias, that of its route.
func (r Route) ModelName(called string) string {
	if slices.Contains(r.Aliases, called) {
		return r.Name
	}
	return called
}

// Fallback is a backend that serves a route's calls when those before it cannot.
type Fallback struct {
	To    string `yaml:"to"`    // like Route.Primary
	Model string `yaml:"model"` // like Route.PrimaryModel

	*Edits `yaml:",inline"` // in place of the route's, one by one; in a Table they are complete
}

// FallbackList returns the route's fallbacks in their order, whether the
// configuration has `fallback` or `fallbacks`.
func (r Route) FallbackList() []Fallback {
	if r.Fallback != "" {
		return []Fallback{{To: r.Fallback, Model: r.FallbackModel, Edits: r.Edits}}
	}
	return slices.Clip(r.Fallbacks) // so that an append copies it
}

// Upstream is an endpoint that llmsup does not run.
type Upstream struct {
	BaseURL    string  `yaml:"base_url"`     // as for an OpenAI SDK
	APIKeyEnv  string  `yaml:"api_key_env"`  // the environment variable with its key
	APIKeyFile string  `yaml:"api_key_file"` // the file with its key
	Billing    Billing `yaml:"billing"`      // "" = Metered if it has a key, else Free
	Referer    string  `yaml:"http_referer"` // the application's URL, for calls without one (OpenRouter's statistics)
	Title      string  `yaml:"x_title"`      // the application's name
}

// Billing says whether calls to an upstream cost money.
type Billing string

// What Billing may be.
const (
	Metered Billing = "metered" // every call may cost money: budgets apply, and at most one attempt may generate an answer
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

// Names of models on the local GPU.
const (
	LocalPrefix = "local/" // followed by the name of a server or of its model
	LocalName   = "local"  // the first server
)

// Table maps model names to routes. It is immutable.
type Table struct {
	exact    map[string]Route // by name and by alias
	patterns []Route          // the longest first
}

// NewTable returns a table of routes by name or pattern.
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
		if err := route.completeEdits(); err != nil {
			return nil, fmt.Errorf("route %q: %w", name, err)
		}
		if strings.Contains(name, "*") {
			t.patterns = append(t.patterns, route)
		} else {
			t.exact[name] = route
		}
	}
	if err := t.addAliases(); err != nil {
		return nil, err
	}
	slices.SortFunc(t.patterns, func(a, b Route) int {
		return cmp.Or(cmp.Compare(literals(b.Name), literals(a.Name)), cmp.Compare(a.Name, b.Name))
	})
	return t, nil
}

// completeEdits adds the route's edits to its fallbacks.
func (r *Route) completeEdits() error {
	r.Edits = MergeEdits(nil, r.Edits)
	r.Fallbacks = slices.Clone(r.Fallbacks)
	all := []*Edits{r.Edits}
	for i := range r.Fallbacks {
		f := &r.Fallbacks[i]
		f.Edits = MergeEdits(f.Edits, r.Edits)
		all = append(all, f.Edits)
	}
	for _, e := range all {
		if mistake := e.Check(); mistake != nil {
			return mistake
		}
	}
	return nil
}

// addAliases adds the aliases of all routes.
func (t *Table) addAliases() error {
	for _, route := range slices.Concat(slices.Collect(maps.Values(t.exact)), t.patterns) {
		for _, alias := range route.Aliases {
			if _, taken := t.exact[alias]; taken || strings.Contains(alias+route.Name, "*") {
				return fmt.Errorf("route %q cannot have the alias %q: another route has that name, or one of the two is a pattern", route.Name, alias)
			}
			t.exact[alias] = route
		}
	}
	return nil
}

// literals counts the characters of a pattern that are not *. The pattern with the most is
// the most specific.
func literals(pattern string) int { return len(pattern) - strings.Count(pattern, "*") }

// Lookup returns the route of a model name: that of the exact name or alias, else that of the longest
// pattern that matches. A name that begins with "local/" matches no pattern that does not:
// a misspelt local model must be an error, not a paid call.
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

// Serves reports whether any name that matches a pattern has a route.
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

// ByName yields all names with their routes: exact names and aliases first, then patterns,
// each sorted.
func (t *Table) ByName() iter.Seq2[string, Route] {
	return func(yield func(string, Route) bool) {
		for _, name := range slices.Sorted(maps.Keys(t.exact)) {
			if !yield(name, t.exact[name]) {
				return
			}
		}
		byName := func(a, b Route) int { return cmp.Compare(a.Name, b.Name) }
		for _, route := range slices.SortedFunc(slices.Values(t.patterns), byName) {
			if !yield(route.Name, route) {
				return
			}
		}
	}
}

// Routes returns all routes: those with exact names first, then patterns, each sorted.
func (t *Table) Routes() (routes []Route) {
	for name, route := range t.ByName() {
		if name == route.Name { // not an alias
			routes = append(routes, route)
		}
	}
	return routes
}

// Names returns the names that ByName yields.
func (t *Table) Names() (names []string) {
	for name := range t.ByName() {
		names = append(names, name)
	}
	return names
}

// Match reports whether a name matches a pattern, in which * stands for any number of
// characters, including "/" and none. Its time is linear in the name's length times the
// number of stars.
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

// overlap reports whether any name matches both patterns. Its time is linear in the product
// of their lengths.
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
