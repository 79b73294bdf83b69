package router

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// health answers 200 while at least one route can be served, so that a load balancer sends
// no calls here that would all fail. If calls need a key, only a request with one receives
// the list of backends.
func (rt *Router) health(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Name   string `json:"name"`
		Usable bool   `json:"usable"`
		Reason string `json:"reason,omitempty"`
		Detail string `json:"detail,omitempty"`
	}
	s := rt.routing.Load()
	body := struct {
		Status   string  `json:"status"` // ok, partial (some backend cannot be used), unavailable (no route can be served)
		Backends []entry `json:"backends,omitzero"`
	}{Status: "ok", Backends: []entry{}}
	usable := map[string]bool{}
	for _, name := range s.SortedBackends() {
		b := s.Backends[name]
		now := b.Availability()
		usable[name] = takesCalls(now)
		body.Backends = append(body.Backends, entry{
			Name: b.Info().Name, Usable: usable[name], Reason: string(now.Reason), Detail: cmp.Or(now.Detail, now.MissingKey),
		})
		if !usable[name] {
			body.Status = "partial"
		}
	}
	served := servesRoute(s, usable)
	status := http.StatusOK
	if !served {
		status, body.Status = http.StatusServiceUnavailable, "unavailable"
		w.Header().Set("Retry-After", "5")
	}
	if s.Access.NeedsKey() && access.CallerKey(r.Context()) == nil {
		body.Backends = nil
		if served {
			body.Status = "ok"
		}
	}
	wire.WriteJSON(w, status, body)
}

// takesCalls reports whether a backend answers calls: now, or once a call has had its model loaded
// or has waited until it is loaded.
func takesCalls(now backend.Availability) bool {
	return now.Usable() || now.Returning && (now.OnDemand || now.Reason == backend.Unloaded)
}

// servesRoute reports whether the calls of at least one route can be answered, or those for a server
// of another box.
func servesRoute(s *plan.Routing, usable map[string]bool) bool {
	if s.Access.AwaitsKeys {
		return false
	}
	return slices.ContainsFunc(s.Boxes.ServerNames(), s.Boxes.Usable) || slices.ContainsFunc(s.Table.Routes(), func(route models.Route) bool {
		return usable[route.Primary] || s.Boxes.Usable(route.Primary) ||
			slices.ContainsFunc(route.FallbackList(), func(f models.Fallback) bool { return usable[f.To] })
	})
}
