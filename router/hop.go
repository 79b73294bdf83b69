package router

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// hopKey is the key of a request's *boxes.Hop in its context.
type hopKey struct{}

func hopOf(ctx context.Context) *boxes.Hop {
	hop, _ := ctx.Value(hopKey{}).(*boxes.Hop)
	return hop
}

// serveHop serves a request with the header of a call from another box of the fleet. The code in
// it takes the place of a key, and of the checks that protect clients: only calls are accepted.
func (rt *Router) serveHop(s *plan.Routing, w http.ResponseWriter, r *http.Request, text string) {
	hop, code, ok := boxes.ParseHop(text)
	if !ok || s.Boxes == nil || !s.Boxes.Verify(hop.Box, code) {
		rt.reject(w, r, wire.Error{
			Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed,
			Message: wire.HeaderHop + " is for calls between the boxes of a fleet, and this one is not authenticated with the fleet's key for this box; if a box has sent it, check fleet.advertise of the box that it is for",
		})
		return
	}
	e := rt.endpoints.At(r.URL.Path)
	if e == nil || e.ForOperators() || !e.Accepts(r.Method) {
		w.Header().Set(wire.HeaderReason, string(backend.Unsupported))
		rt.notFound(w, r)
		return
	}
	if server := s.Server(hop.Server); server != nil && hop.MaxWait.Limited {
		if wait := server.ExpectedWait(r.URL.Path); wait > hop.MaxWait.Limit {
			rt.refuseHop(w, r, &hop, wait)
			return
		}
	}
	rt.handleCall(w, r.WithContext(context.WithValue(r.Context(), hopKey{}, &hop)), e)
}

// refuseHop refuses a call of another box that would have to wait here, and says for how long. That
// box asks others, so this is not an error, and is not logged.
func (rt *Router) refuseHop(w http.ResponseWriter, r *http.Request, hop *boxes.Hop, wait time.Duration) {
	request.Discard(r)
	w.Header().Set(wire.HeaderReason, string(backend.Saturated))
	w.Header().Set(wire.HeaderWait, strconv.FormatInt(wait.Milliseconds(), 10))
	d, _ := rt.endpoints.DialectOf(r)
	wire.WriteError(w, d, wire.Error{
		Status: http.StatusTooManyRequests, Type: wire.TypeRateLimit, Code: string(backend.Saturated), RetryAfter: wire.RetrySoon,
		Message: hop.Server + " has all slots busy",
	})
}
