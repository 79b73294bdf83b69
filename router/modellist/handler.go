package modellist

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// Handler answers the requests for models.
type Handler struct {
	Routing func() *plan.Routing // the present one
	Created int64                // Unix seconds, for a model whose own date is unknown: llmsup's start

	catalogue atomic.Pointer[catalogue]
}

// List lists the models that the client's key may use.
func (h *Handler) List(w http.ResponseWriter, r *http.Request) {
	c := h.current()
	visible := c.visible(access.CallerKey(r.Context()))
	if isAnthropic(r) {
		h.listForAnthropic(w, r, visible)
		return
	}
	const begin, end = `{"object":"list","data":[`, "]}\n"
	separator := []byte(begin)
	var parts [][]byte
	for _, e := range visible {
		parts = append(parts, separator, h.encoded(e))
		separator = []byte(",")
	}
	if len(parts) == 0 {
		parts = append(parts, separator)
	}
	writeParts(w, append(parts, []byte(end)))
}

// writeParts sends JSON in parts. They are not joined: hundreds of models are 200 KB.
func writeParts(w http.ResponseWriter, parts [][]byte) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	for _, part := range parts {
		if _, err := w.Write(part); err != nil { // the client closed the connection
			return
		}
	}
}

// Show describes the model {id} of the path, which may also match a pattern.
func (h *Handler) Show(w http.ResponseWriter, r *http.Request) {
	c, id := h.current(), r.PathValue("id")
	p := c.routing.PlanFor(access.CallerKey(r.Context()), id, "")
	e, ok := c.entry(id)
	switch {
	case p.Rejection.Code == wire.CodeModelNotFound, p.Rejection.Code == wire.CodeNotAllowed, !ok:
		wire.WriteError(w, dialect(r), p.Rejection)
	case isAnthropic(r):
		wire.WriteJSON(w, http.StatusOK, h.anthropicModel(e))
	default:
		wire.WriteJSON(w, http.StatusOK, h.model(e))
	}
}

// isAnthropic reports whether a request comes from a client of Anthropic's API, which has
// the same paths.
func isAnthropic(r *http.Request) bool { return r.Header.Get("Anthropic-Version") != "" }

func dialect(r *http.Request) wire.Dialect {
	if isAnthropic(r) {
		return wire.Messages{}
	}
	return wire.Chat
}
