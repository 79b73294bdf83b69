package router

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
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
		usable[name] = now.Usable() || now.Returning && (now.OnDemand || now.Reason == backend.Unloaded) // a call loads it, or waits until it is loaded
		body.Backends = append(body.Backends, entry{
			Name: b.Info().Name, Usable: usable[name], Reason: string(now.Reason), Detail: cmp.Or(now.Detail, now.MissingKey),
		})
		if !usable[name] {
			body.Status = "partial"
		}
	}
	served := false
	for _, route := range s.Table.Routes() {
		served = served || usable[route.Primary] || s.Boxes.Usable(route.Primary) || slices.ContainsFunc(route.FallbackList(), func(f models.Fallback) bool { return usable[f.To] })
	}
	served = served || slices.ContainsFunc(s.Boxes.ServerNames(), s.Boxes.Usable)
	served = served && !s.Access.AwaitsKeys
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
