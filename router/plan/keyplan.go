package plan

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// KeyAllows reports whether a key may be used for a route by one of its names.
func (s *Routing) KeyAllows(k *access.Key, name string, route models.Route) bool {
	return allowsName(k, name, route) && (k == nil || !k.FreeOnly || !s.Backend(route.Primary).Info().Metered)
}

// allowsName reports whether a key may use a name of a route. A key for the route may use its
// aliases too; a key for an alias may use only that name.
func allowsName(k *access.Key, name string, route models.Route) bool {
	return k.Allows(name) || k.Allows(route.Name) && slices.Contains(route.Aliases, name)
}

// PlanFor returns the plan of a call with a key, nil = without one, at a path, "" = at one
// that any model answers.
func (s *Routing) PlanFor(k *access.Key, model, path string) Plan {
	called := model
	route, model, ok := s.Lookup(called)
	if !ok {
		return Plan{Rejection: s.unknownModelError(k, called)}
	}
	if !k.Allows(called) && !k.Allows(model) {
		return Plan{Route: route, Rejection: notAllowedError(
			"the key %s may not use the model %s; it may use %s", k.Name, wire.Quote(wire.Shorten(called)), cmp.Or(strings.Join(k.Routes, ", "), "no model"))}
	}
	if k == nil || !k.FreeOnly {
		return s.planRoute(route, model, path)
	}
	if s.Backend(route.Primary).Info().Metered {
		return Plan{Route: route, Rejection: notAllowedError(
			"the key %s is free_only, and %s goes to %s, which is paid", k.Name, wire.Quote(wire.Shorten(model)), s.Backend(route.Primary).Info().Name)}
	}
	return s.planWithoutSpending(k, route, model, path)
}

// planWithoutSpending returns the plan of a call whose key is free_only.
func (s *Routing) planWithoutSpending(k *access.Key, route models.Route, model, path string) Plan {
	free, metered := route, []Candidate(nil)
	free.Fallback, free.FallbackModel, free.Fallbacks = "", "", nil
	for _, f := range route.FallbackList() {
		if c := s.candidate(f.To, f.Model, model); c.Metered {
			c.skipReason = fmt.Sprintf("the key %s is free_only, so %s was skipped", k.Name, c.Name)
			metered = append(metered, c)
		} else {
			free.Fallbacks = append(free.Fallbacks, f)
		}
	}
	p := s.planRoute(free, model, path)
	p.Baseline = s.baseline(route, model)
	p.Candidates = append(p.Candidates, metered...)
	switch {
	case p.Rejection.Status == 0 || len(metered) == 0:
	case p.Rejection.Code == wire.CodeNoKey:
		p.Rejection.Message += "; " + metered[0].skipReason
	default:
		p.Rejection = p.unavailableError()
	}
	return p
}

func notAllowedError(format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Message: fmt.Sprintf(format, args...)}
}
