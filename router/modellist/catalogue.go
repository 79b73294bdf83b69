package modellist

import (
	"slices"
	"strings"
	"sync"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// catalogue is all models that clients can call by a name that is known: those of exact
// routes, and those that an upstream lists and whose names match a pattern. It is
// immutable, and made anew for another routing and for other lists.
type catalogue struct {
	routing *plan.Routing
	lists   *models.Lists
	others  []string // names of servers on other boxes
	entries []*entry // exact routes first, sorted; then each upstream's in its order
}

// entry is a model, by the name that clients use for it.
type entry struct {
	id      string
	route   *models.Route
	backend backend.Backend // the route's primary
	there   string          // the model's name at the primary
	listed  *models.Listed  // by the upstream; nil = not in its list
	pattern bool            // the name matches a pattern, and is the upstream's own

	once sync.Once
	json []byte // of an upstream's model, in OpenAI's format
}

// current returns the catalogue of the present routing and lists.
func (h *Handler) current() *catalogue {
	routing := h.Routing()
	lists, others := routing.Lists(), routing.Boxes.ServerNames()
	c := h.catalogue.Load()
	if c == nil || c.routing != routing || c.lists != lists || !slices.Equal(c.others, others) {
		c = newCatalogue(routing, lists, others)
		h.catalogue.Store(c)
	}
	return c
}

func newCatalogue(routing *plan.Routing, lists *models.Lists, others []string) *catalogue {
	c := &catalogue{routing: routing, lists: lists, others: others}
	patterns := map[string]*models.Route{} // by name
	for name, route := range routing.ByName() {
		if isPattern(route) {
			patterns[name] = &route
			continue
		}
		c.entries = append(c.entries, c.newEntry(name, route.ModelName(name), route))
	}
	if lists == nil {
		return c
	}
	for _, name := range routing.SortedBackends() {
		if routing.Backends[name].Availability().MissingKey != "" {
			continue
		}
		for i := range lists.ByUpstream[name] {
			listed := &lists.ByUpstream[name][i]
			route, ok := routing.Table.Lookup(listed.ID)
			if ok && isPattern(route) && route.Primary == name && route.PrimaryModel == "" {
				c.entries = append(c.entries, &entry{
					id: listed.ID, route: patterns[route.Name], backend: routing.Backends[name], there: listed.ID, listed: listed, pattern: true,
				})
			}
		}
	}
	return c
}

func isPattern(route models.Route) bool { return strings.Contains(route.Name, "*") }

// newEntry returns the entry of a model with a route. name is id, completed with its vendor
// if a call would be.
func (c *catalogue) newEntry(id, name string, route models.Route) *entry {
	b := c.routing.Backend(route.Primary)
	e := &entry{id: id, route: &route, backend: b, there: plan.ModelAt(b, route.PrimaryModel, name)}
	e.listed = c.lists.Find(route.Primary, e.there)
	return e
}

// entry returns the model of a name, listed or not.
func (c *catalogue) entry(id string) (*entry, bool) {
	for _, e := range c.entries {
		if e.id == id {
			return e, true
		}
	}
	route, name, ok := c.routing.Lookup(id)
	if !ok {
		return nil, false
	}
	return c.newEntry(id, name, route), true
}

// visible returns the models that a key may use. A key that may use only the bare name of a
// listed model, without the vendor, sees it under that name.
func (c *catalogue) visible(k *access.Key) []*entry {
	list := make([]*entry, 0, len(c.entries))
	for _, e := range c.entries {
		if c.routing.KeyAllows(k, e.id, *e.route) {
			list = append(list, e)
			continue
		}
		if !e.pattern {
			continue
		}
		if bare, ok := c.routing.BareName(e.id); ok && c.routing.KeyAllows(k, bare, *e.route) {
			list = append(list, &entry{id: bare, route: e.route, backend: e.backend, there: e.there, listed: e.listed, pattern: true})
		}
	}
	return list
}
