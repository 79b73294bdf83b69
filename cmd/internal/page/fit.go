package page

import (
	"context"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// fitTimeout is the time to read a repository's headers.
const fitTimeout = 2 * time.Minute

// fitRequest is the body of POST /ui/api/fit.
type fitRequest struct {
	Ref     string `json:"ref"`      // hf:ORG/REPO[:QUANT], or a URL
	CtxSize int    `json:"ctx_size"` // tokens; 0 = the default
}

// handleFit serves how the quantisations of a reference fit the GPUs. It changes nothing, but has
// llmsup send requests, so it is for those who may give commands. The log does not get the
// reference: a URL may have a secret.
func (h *Handler) handleFit() {
	h.paths.Handle("POST /ui/api/fit", h.forViewers(func(w http.ResponseWriter, r *http.Request, v viewer) {
		if !v.commands {
			writeError(w, wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator, Message: v.why})
			return
		}
		var body fitRequest
		if !readBody(w, r, &body, "ref and ctx_size") {
			return
		}
		if body.CtxSize < 0 {
			writeError(w, wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody, Message: "ctx_size must not be negative"})
			return
		}
		ctx, cancel := h.untilClosed(r.Context())
		defer cancel()
		ctx, stop := context.WithTimeout(ctx, fitTimeout)
		defer stop()
		answer, err := h.o.Disk.Fit(ctx, body.Ref, body.CtxSize)
		if err != nil {
			writeError(w, refusal(err))
			return
		}
		writeJSON(w, answer)
	}))
}
