package modellist

import (
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// Handler answers the requests for the models. Routing returns the present routing, and
// Created is the Unix time that models have whose own date is unknown: llmsup's start.
type Handler struct {
	Routing func() *plan.Routing
	Created int64
}

// model is an entry of GET /v1/models, in OpenAI's format.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // Unix seconds
	OwnedBy string `json:"owned_by"`
}

func (h *Handler) model(s *plan.Routing, id string, route models.Route) model {
	owner := s.Backends[route.Primary].Info().Name
	return model{ID: id, Object: "model", Created: h.Created, OwnedBy: owner}
}

// List lists the exact names and aliases that the client's key may use. Only the upstream knows which
// names match a pattern.
func (h *Handler) List(w http.ResponseWriter, r *http.Request) {
	key := access.CallerKey(r.Context())
	s := h.Routing()
	list := []model{}
	for name, route := range s.Table.ByName() {
		if !strings.Contains(name, "*") && s.KeyAllows(key, name, route) {
			list = append(list, h.model(s, name, route))
		}
	}
	wire.WriteJSON(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", list})
}

// Show describes the model {id} of the path.
func (h *Handler) Show(w http.ResponseWriter, r *http.Request) {
	s := h.Routing()
	id := r.PathValue("id")
	p := s.PlanFor(access.CallerKey(r.Context()), id)
	switch p.Rejection.Code {
	case wire.CodeModelNotFound, wire.CodeNotAllowed:
		wire.WriteError(w, wire.Chat, p.Rejection)
	default:
		wire.WriteJSON(w, http.StatusOK, h.model(s, id, p.Route))
	}
}
