package router

import (
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// model is an entry of GET /v1/models, in OpenAI's format.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // Unix seconds: llmsup's own start, since the model's date is unknown
	OwnedBy string `json:"owned_by"`
}

func (rt *Router) model(s *plan.Routing, id string, route models.Route) model {
	owner := s.Backends[route.Primary].Info().Name
	return model{ID: id, Object: "model", Created: rt.started.Unix(), OwnedBy: owner}
}

// listModels lists the exact names that the client's key may use. Only the upstream knows
// which names match a pattern.
func (rt *Router) listModels(w http.ResponseWriter, r *http.Request) {
	key := access.CallerKey(r.Context())
	s := rt.routing.Load()
	list := []model{}
	for _, route := range s.Table.Routes() {
		if !strings.Contains(route.Name, "*") && s.KeyAllows(key, route) {
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
	p := s.PlanFor(access.CallerKey(r.Context()), id)
	switch p.Rejection.Code {
	case wire.CodeModelNotFound, wire.CodeNotAllowed:
		wire.WriteError(w, wire.Chat, p.Rejection)
	default:
		writeJSON(w, http.StatusOK, rt.model(s, id, p.Route))
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(wire.MustJSON(v), '\n')) // an error means that the client closed the connection
}
