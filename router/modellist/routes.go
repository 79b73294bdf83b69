package modellist

import (
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/price"
)

// Route is a listed model, and what answers calls for it.
type Route struct {
	Name         string
	Primary      string
	Local        bool // the primary is a server of llmsup's own
	Paid         bool // the primary bills its answers
	Fallback     string
	FallbackName string // by which a client can call the fallback alone; "" = by none
	FallbackPaid bool
	Prices       *price.Prices // of the first of the two that bills; nil = unknown, or neither does
}

// Routes returns the listed models that a key may use, without those whose only backend
// lacks its own key.
func (h *Handler) Routes(key *access.Key) []Route {
	c := h.current()
	visible := c.visible(key)
	list := make([]Route, 0, len(visible))
	for _, e := range visible {
		if r, ok := c.route(key, e); ok {
			list = append(list, r)
		}
	}
	return list
}

func (c *catalogue) route(key *access.Key, e *entry) (r Route, usable bool) {
	info := e.backend.Info()
	r = Route{Name: e.id, Primary: info.Name, Local: info.Local, Paid: info.Metered}
	usable = e.backend.Availability().MissingKey == ""
	payee, model := e.backend, e.there
	for _, fallback := range e.route.FallbackList() {
		b := c.routing.Backends[fallback.To]
		if b.Availability().MissingKey != "" {
			continue
		}
		there := plan.ModelAt(b, fallback.Model, e.id)
		r.Fallback, r.FallbackPaid, usable = b.Info().Name, b.Info().Metered, true
		if !r.Paid {
			payee, model = b, there
		}
		if route, name, ok := c.routing.Lookup(there); ok && route.Primary == fallback.To && name == there && c.routing.KeyAllows(key, there, route) {
			r.FallbackName = there
		}
		break
	}
	if r.Paid || r.FallbackPaid {
		r.Prices = c.prices(payee, model)
	}
	return r, usable
}

// prices returns what a model costs at a backend; nil = unknown.
func (c *catalogue) prices(b backend.Backend, model string) *price.Prices {
	if p, _, ok := c.routing.Accounting.PriceList(b.Info().Name).Lookup(model); ok {
		return &p
	}
	return nil
}
