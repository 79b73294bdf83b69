package plan

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// KeyAllows says whether a key may be used for a route.
func (s *Routing) KeyAllows(k *access.Key, route models.Route) bool {
	return k.Allows(route.Name) && (k == nil || !k.FreeOnly || !s.Backends[route.Primary].Info().Metered)
}

// PlanFor is the plan of a call that came with a key.
func (s *Routing) PlanFor(k *access.Key, model string) Plan {
	called := model
	route, model, ok := s.lookup(called)
	if !ok {
		return Plan{Refuse: s.unknownModel(k, called)}
	}
	if !k.Allows(called) && !k.Allows(model) {
		return Plan{Route: route, Refuse: notAllowed(
			"the key %s may not use the model %s; it may use %s", k.Name, wire.Quote(wire.Shorten(called)), cmp.Or(strings.Join(k.Routes, ", "), "no model"))}
	}
	if k == nil || !k.FreeOnly {
		return s.planRoute(route, model)
	}
	if s.Backends[route.Primary].Info().Metered {
		return Plan{Route: route, Refuse: notAllowed(
			"the key %s may not spend money, and %s goes to %s", k.Name, wire.Quote(wire.Shorten(model)), s.Backends[route.Primary].Info().Name)}
	}
	return s.planWithoutSpending(k, route, model)
}

// planWithoutSpending is the plan of a call whose key may not spend money.
func (s *Routing) planWithoutSpending(k *access.Key, route models.Route, model string) Plan {
	free, metered := route, []Candidate(nil)
	free.Fallback, free.FallbackModel, free.Fallbacks = "", "", nil
	for _, f := range route.FallbackList() {
		if c := s.candidate(f.To, f.Model, model); c.Metered {
			c.skipped = fmt.Sprintf("the key %s may not spend money, so %s is not asked", k.Name, c.Name)
			metered = append(metered, c)
		} else {
			free.Fallbacks = append(free.Fallbacks, f)
		}
	}
	p := s.planRoute(free, model)
	p.Baseline = s.baseline(route, model)
	p.Candidates = append(p.Candidates, metered...)
	switch {
	case p.Refuse.Status == 0 || len(metered) == 0:
	case p.Refuse.Code == wire.CodeNoKey:
		p.Refuse.Message += "; " + metered[0].skipped
	default:
		p.Refuse = p.unavailable()
	}
	return p
}

func notAllowed(format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Message: fmt.Sprintf(format, args...)}
}
