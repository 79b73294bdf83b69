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
	FallbackPaid bool
	Prices       *price.Prices // of the first of the two that bills; nil = unknown, or neither does
}

// Routes returns the listed models that a key may use.
func (h *Handler) Routes(key *access.Key) []Route {
	c := h.current()
	visible := c.visible(key)
	list := make([]Route, 0, len(visible))
	for _, e := range visible {
		info := e.backend.Info()
		r := Route{Name: e.id, Primary: info.Name, Local: info.Local, Paid: info.Metered}
		payee, model := e.backend, e.there
		if all := e.route.FallbackList(); len(all) > 0 {
			if b := c.routing.Backends[all[0].To]; b != nil {
				r.Fallback, r.FallbackPaid = b.Info().Name, b.Info().Metered
				if !r.Paid {
					payee, model = b, plan.ModelAt(b, all[0].Model, e.id)
				}
			}
		}
		if r.Paid || r.FallbackPaid {
			r.Prices = c.prices(payee, model)
		}
		list = append(list, r)
	}
	return list
}

// prices returns what a model costs at a backend; nil = unknown.
func (c *catalogue) prices(b backend.Backend, model string) *price.Prices {
	if p, _, ok := c.routing.Accounting.PriceList(b.Info().Name).Lookup(model); ok {
		return &p
	}
	return nil
}
