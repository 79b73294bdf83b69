package router

import (
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// exposedHeaders are llmsup's own headers that a web page's script may read.
const exposedHeaders = wire.HeaderRequestID + ", " + wire.HeaderBackend + ", " + wire.HeaderReason + ", " + wire.HeaderQueue + ", " + wire.HeaderShouldRetry + ", Retry-After"

// healthPath needs no key: load balancers have none. Without a key its answer has no
// names.
const healthPath = "/health"

// guard rejects requests that fail a check before their body is read.
func (rt *Router) guard(inside http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := rt.routing.Load()
		d := s.Access
		request.LimitTime(w, r, d.BodyTimeout)
		if e := checkLoop(s.Via, w, r); e.Status != 0 {
			rt.reject(w, r, e)
			return
		}
		if hop := r.Header.Get(wire.HeaderHop); hop != "" {
			rt.serveHop(s, w, r, hop)
			return
		}
		if e := d.VerifyOrigin(w, r, exposedHeaders); e.Status != 0 {
			rt.rejectOrigin(w, r, e)
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
		if d.NeedsKey() {
			key, e := d.Authenticate(r)
			if e.Status != 0 && r.URL.Path != healthPath {
				if e.Status == http.StatusUnauthorized {
					w.Header().Set("WWW-Authenticate", "Bearer")
				}
				rt.reject(w, r, e)
				return
			}
			r = r.WithContext(access.WithKey(r.Context(), key))
		}
		inside.ServeHTTP(w, r)
	})
}

// reject rejects a request in the dialect of its path. It logs only fields that cannot hold
// a secret.
func (rt *Router) reject(w http.ResponseWriter, r *http.Request, e wire.Error) {
	rt.rejectLogged(rt.log, w, r, e)
}

// rejectOrigin rejects a request of a web page. The page's script cannot read the answer,
// and its browser shows no reason: the page's developer finds it in the log.
func (rt *Router) rejectOrigin(w http.ResponseWriter, r *http.Request, e wire.Error) {
	log := zerolog.Nop()
	if origin, logIt := rt.origins.Note(r.Header.Get("Origin"), time.Now()); logIt {
		log = rt.log.With().Str("origin", origin).Str("advice", "add it to allowed_origins in llmsup.yaml if this page may call").Logger()
	}
	rt.rejectLogged(log, w, r, e)
}

func (rt *Router) rejectLogged(log zerolog.Logger, w http.ResponseWriter, r *http.Request, e wire.Error) {
	d, known := rt.endpoints.DialectOf(r)
	line := log.WithLevel(zerolog.InfoLevel).Str("request_id", w.Header().Get(wire.HeaderRequestID)).
		Int("status", e.Status).Str("code", e.Code).Str("from", r.RemoteAddr)
	if known {
		line.Str("path", r.URL.Path)
	}
	line.Msg("request rejected")
	rt.metrics.rejected.WithLabelValues(e.Code).Inc()
	wire.WriteError(w, d, e)
}

// rejectNonOperator rejects a request whose key is not an operator's.
func (rt *Router) rejectNonOperator(w http.ResponseWriter, r *http.Request) (rejected bool) {
	key := access.CallerKey(r.Context())
	if key == nil || key.Operator {
		return false
	}
	rt.reject(w, r, wire.Error{
		Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator,
		Message: fmt.Sprintf("%s is for operators only; the key %s needs operator: true in llmsup.yaml", r.URL.Path, key.Name),
	})
	return true
}
