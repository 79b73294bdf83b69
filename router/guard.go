package router

import (
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// exposedHeaders are the headers of llmsup's own that a page's script may read.
const exposedHeaders = wire.HeaderRequestID + ", " + wire.HeaderBackend + ", " + wire.HeaderReason + ", Retry-After"

// healthPath is open to those without a key: load balancers have none. Its
// answer to them has no names.
const healthPath = "/health"

// guard lets in who may come in, before anything is done for a request.
func (rt *Router) guard(inside http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := rt.routing.Load()
		d := s.Access
		limitBody(w, r, d.BodyTimeout)
		if e := checkLoop(s.Via, w, r); e.Status != 0 {
			rt.reject(w, r, e)
			return
		}
		if e := d.VerifyOrigin(w, r, exposedHeaders); e.Status != 0 {
			rt.reject(w, r, e)
			return
		}
		if e := d.VerifyHost(r); e.Status != 0 {
			rt.reject(w, r, e)
			return
		}
		if access.IsPreflight(r) { // browsers send it without the key
			access.AnswerPreflight(w, r)
			return
		}
		if len(d.Keys) > 0 {
			key, e := d.Authenticate(r)
			if e.Status != 0 && r.URL.Path != healthPath {
				w.Header().Set("WWW-Authenticate", "Bearer")
				rt.reject(w, r, e)
				return
			}
			r = r.WithContext(access.WithKey(r.Context(), key))
		}
		inside.ServeHTTP(w, r)
	})
}

// reject refuses a request in the dialect of its path, and says so in the log:
// of the request only what can be no secret.
func (rt *Router) reject(w http.ResponseWriter, r *http.Request, e wire.Error) {
	d, known := rt.dialectAt(r.URL.Path)
	line := rt.log.WithLevel(zerolog.InfoLevel).Str("request_id", w.Header().Get(wire.HeaderRequestID)).
		Int("status", e.Status).Str("code", e.Code).Str("from", r.RemoteAddr)
	if known {
		line.Str("path", r.URL.Path)
	}
	line.Msg("turned away")
	rt.metrics.turnedAway.WithLabelValues(e.Code).Inc()
	wire.WriteError(w, d, e)
}

// limitBody gives a request's body a time to arrive in. It holds for a request
// that is refused as well: net/http reads what is left of its body before it
// answers, and would wait for it. readBody lifts it again, so that it never
// ends an answer.
func limitBody(w http.ResponseWriter, r *http.Request, limit time.Duration) {
	if limit > 0 && r.ContentLength != 0 {
		// A writer that has no deadlines is a test's.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
	}
}

func bodyArrived(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as in limitBody
}

// forOperators rejects requests whose key is not an operator's: what is inside shows
// the spending of all keys.
func (rt *Router) forOperators(inside http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if key := access.CallerKey(r.Context()); key != nil && !key.Operator {
			rt.reject(w, r, wire.Error{
				Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator,
				Message: fmt.Sprintf("%s is for operators; the key %s needs operator: true in llmsup.yaml", r.URL.Path, key.Name),
			})
			return
		}
		inside.ServeHTTP(w, r)
	}
}
