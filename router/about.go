package router

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// model is an entry of GET /v1/models, as OpenAI writes it.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // Unix seconds: llmsup's own start, which is all it knows
	OwnedBy string `json:"owned_by"`
}

func (rt *Router) model(s *routing, id string, route models.Route) model {
	owner := s.backends[route.Primary].Info().Name
	return model{ID: id, Object: "model", Created: rt.started.Unix(), OwnedBy: owner}
}

// listModels lists the exact names that the caller may use. What a pattern stands for is known only to
// the upstream behind it.
func (rt *Router) listModels(w http.ResponseWriter, r *http.Request) {
	key := access.CallerKey(r.Context())
	s := rt.routing.Load()
	list := []model{}
	for _, route := range s.table.Routes() {
		if !strings.Contains(route.Name, "*") && s.keyAllows(key, route) {
			list = append(list, rt.model(s, route.Name, route))
		}
	}
	writeJSON(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", list})
}

func (rt *Router) showModel(w http.ResponseWriter, r *http.Request) {
	s := rt.routing.Load()
	id := r.PathValue("id")
	p := s.planFor(access.CallerKey(r.Context()), id)
	switch p.refuse.Code {
	case wire.CodeModelNotFound, wire.CodeNotAllowed:
		wire.WriteError(w, wire.Chat, p.refuse)
	default:
		writeJSON(w, http.StatusOK, rt.model(s, id, p.route))
	}
}

// health is 200 while some route can be served, so that a load balancer sends
// no call here that would be refused whatever it asks for. Where calls need a key,
// only a request with one gets the list of backends.
func (rt *Router) health(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Name   string `json:"name"`
		Usable bool   `json:"usable"`
		Reason string `json:"reason,omitempty"`
		Detail string `json:"detail,omitempty"`
	}
	s := rt.routing.Load()
	body := struct {
		Status   string  `json:"status"` // ok, partial (some backend can't be used), unavailable (none can)
		Backends []entry `json:"backends,omitzero"`
	}{Status: "ok", Backends: []entry{}}
	usable := map[string]bool{}
	for _, name := range s.sortedBackends() {
		b := s.backends[name]
		now := b.Availability()
		usable[name] = now.Usable()
		body.Backends = append(body.Backends, entry{
			Name: b.Info().Name, Usable: usable[name], Reason: string(now.Reason), Detail: cmp.Or(now.Detail, now.MissingKey),
		})
		if !usable[name] {
			body.Status = "partial"
		}
	}
	served := false
	for _, route := range s.table.Routes() {
		served = served || usable[route.Primary] || slices.ContainsFunc(route.FallbackList(), func(f models.Fallback) bool { return usable[f.To] })
	}
	status := http.StatusOK
	if !served {
		status, body.Status = http.StatusServiceUnavailable, "unavailable"
		w.Header().Set("Retry-After", "5")
	}
	if len(s.access.Keys) > 0 && access.CallerKey(r.Context()) == nil {
		body.Backends = nil
		if served {
			body.Status = "ok"
		}
	}
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(wire.MustJSON(v), '\n')) // the client may have left
}
