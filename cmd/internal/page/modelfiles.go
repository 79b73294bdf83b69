package page

import (
	"context"
	"net/http"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/wire"
)

// Disk has the model files that no server uses, and says what fits of a hub.
type Disk interface {
	control.Disk
	// Fit returns how the quantisations of a reference fit the GPUs with a context, in tokens; 0 =
	// the default.
	Fit(ctx context.Context, ref string, ctxSize int) (control.Fit, error)
}

// handleModelFiles serves the model files that no server uses, to operators only, since
// paths are no business of a client.
func (h *Handler) handleModelFiles() {
	h.paths.Handle("GET /ui/api/files", h.forViewers(func(w http.ResponseWriter, r *http.Request, v viewer) {
		if !v.Operator {
			writeError(w, wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator, Message: v.why})
			return
		}
		ctx, cancel := h.untilClosed(r.Context())
		defer cancel()
		list, err := h.o.Disk.ModelFiles(ctx)
		if err != nil {
			writeError(w, wire.Error{Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: "files_unavailable", Message: err.Error()})
			return
		}
		writeJSON(w, list)
	}))
}
