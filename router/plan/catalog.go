package plan

import (
	"strings"

	"github.com/llmsup/llmsup/models"
)

// Catalog has the models that upstreams list. Its methods are called from any number of
// goroutines, FullName for each call whose model has no route. They must not block.
type Catalog interface {
	// FullName returns the name with its vendor, as in openai/gpt-4.1 for gpt-4.1,
	// if exactly one vendor has a model of that name.
	FullName(bare string) (name string, ok bool)
	// Lists returns the lists of all upstreams.
	Lists() *models.Lists
}

// Lists returns the upstreams' own lists of models; nil = none is known.
func (s *Routing) Lists() *models.Lists {
	if s.catalog == nil {
		return nil
	}
	return s.catalog.Lists()
}

// BareName returns the name without vendor by which a listed model can be called, too.
func (s *Routing) BareName(full string) (bare string, ok bool) {
	_, bare, _ = strings.Cut(full, "/")
	_, name, ok := s.Lookup(bare)
	return bare, ok && name == full
}

// Knows reports whether a model has a route.
func (s *Routing) Knows(model string) bool {
	_, _, ok := s.Lookup(model)
	return ok
}

// Lookup finds the route of a model, and the model's name at the route's backends. A bare
// name without a route takes the route of the name with its vendor.
func (s *Routing) Lookup(model string) (route models.Route, name string, ok bool) {
	if route, ok = s.Table.Lookup(model); ok {
		return route, route.ModelName(model), true
	}
	if route, ok = s.routeToBoxes(model); ok {
		return route, model, true
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
