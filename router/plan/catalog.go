package plan

import (
	"strings"

	"github.com/llmsup/llmsup/models"
)

// Catalog completes the bare names of models that upstreams list. FullName is called for
// each call whose model has no route, from any number of goroutines, and must not block.
type Catalog interface {
	// FullName returns the name with its vendor, as in openai/gpt-4.1 for gpt-4.1,
	// if exactly one vendor has a model of that name.
	FullName(bare string) (name string, ok bool)
}

// Knows reports whether a model has a route.
func (s *Routing) Knows(model string) bool {
	_, _, ok := s.lookup(model)
	return ok
}

// lookup finds the route of a model, and the model's name at the route's backends. A bare
// name without a route takes the route of the name with its vendor.
func (s *Routing) lookup(model string) (route models.Route, name string, ok bool) {
	if route, ok = s.Table.Lookup(model); ok {
		return route, route.ModelName(model), true
	}
	if s.catalog == nil || strings.Contains(model, "/") {
		return models.Route{}, "", false
	}
	if name, ok = s.catalog.FullName(model); !ok {
		return models.Route{}, "", false
	}
	route, ok = s.Table.Lookup(name)
	return route, route.ModelName(name), ok
}
