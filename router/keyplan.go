package router

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// keyAllows says whether a key may be used for a route.
func (s *routing) keyAllows(k *access.Key, route models.Route) bool {
	return k.Allows(route.Name) && (k == nil || !k.FreeOnly || !s.backends[route.Primary].Info().Metered)
}

// forOperators rejects requests whose key is not an operator's: what is inside shows
// the spending of all keys.
func (rt *Router) forOperators(inside http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if key := access.CallerKey(r.Context()); key != nil && !key.Operator {
			rt.reject(w, r, wire.Error{
				Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator,
				Message: fmt.Sprintf("%s is for operators; the key %s needs operator: true in llmsup.yaml", r.URL.Path, key.Name),
			})
			return
		}
		inside.ServeHTTP(w, r)
	}
}

// planFor is the plan of a call that came with a key.
func (s *routing) planFor(k *access.Key, model string) plan {
	called := model
	route, model, ok := s.lookup(called)
	if !ok {
		return plan{refuse: s.unknownModel(k, called)}
	}
	if !k.Allows(called) && !k.Allows(model) {
		return plan{route: route, refuse: notAllowed(
			"the key %s may not use the model %s; it may use %s", k.Name, wire.Quote(wire.Shorten(called)), cmp.Or(strings.Join(k.Routes, ", "), "no model"))}
	}
	if k == nil || !k.FreeOnly {
		return s.planRoute(route, model)
	}
	if s.backends[route.Primary].Info().Metered {
		return plan{route: route, refuse: notAllowed(
			"the key %s may not spend money, and %s goes to %s", k.Name, wire.Quote(wire.Shorten(model)), s.backends[route.Primary].Info().Name)}
	}
	return s.planWithoutSpending(k, route, model)
}

// planWithoutSpending is the plan of a call whose key may not spend money.
func (s *routing) planWithoutSpending(k *access.Key, route models.Route, model string) plan {
	free, metered := route, []candidate(nil)
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
	p.baseline = s.baseline(route, model)
	p.candidates = append(p.candidates, metered...)
	if p.refuse.Status != 0 && len(metered) > 0 {
		p.refuse = p.unavailable()
	}
	return p
}

func notAllowed(format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Message: fmt.Sprintf(format, args...)}
}
