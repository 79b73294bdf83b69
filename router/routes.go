package router

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/modellist"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// routes returns the handler of all public paths.
func (rt *Router) routes() http.Handler {
	mux := http.NewServeMux()
	list := modellist.Handler{Routing: rt.routing.Load, Created: time.Now().Unix()}
	for path, d := range wire.Endpoints {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { rt.handleCall(w, r, d, false) })
		mux.HandleFunc(path, wrongMethod(d, http.MethodPost))
	}
	for _, path := range rt.localPaths { // without a model, the route local
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { rt.handleCall(w, r, wire.Generic{}, true) })
		mux.HandleFunc(path, wrongMethod(wire.Generic{}, http.MethodPost))
	}
	for path, handle := range map[string]http.HandlerFunc{
		"/v1/models": list.List, "/v1/models/{id...}": list.Show, "/health": rt.health,
		"/metrics": rt.operatorOnly(metricsHandler(rt.registry, rt.log)),
	} {
		mux.HandleFunc("GET "+path, handle)
		mux.HandleFunc(path, wrongMethod(wire.Chat, http.MethodGet))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		message := fmt.Sprintf("no endpoint at %s %s", r.Method, wire.Shorten(r.URL.Path))
		if _, ok := wire.Endpoints["/v1"+r.URL.Path]; ok {
			message += "; the base URL must end in /v1"
		}
		wire.WriteError(w, wire.Chat, wire.Error{Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeNotFound, Message: message})
	})
	guarded := rt.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost { // the same result as the mux's, but faster
			if d, ok := wire.Endpoints[r.URL.Path]; ok {
				rt.handleCall(w, r, d, false)
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderRequestID, requestID(r))
		guarded.ServeHTTP(w, r)
	})
}

// dialectAt returns the dialect of a path, and whether it is the path of an endpoint.
func (rt *Router) dialectAt(path string) (d wire.Dialect, known bool) {
	if d, known = wire.Endpoints[path]; known {
		return d, true
	}
	if slices.Contains(rt.localPaths, path) {
		return wire.Generic{}, true
	}
	return wire.Chat, false
}

func wrongMethod(d wire.Dialect, right string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", right)
		wire.WriteError(w, d, wire.Error{
			Status: http.StatusMethodNotAllowed, Type: wire.TypeInvalid, Code: wire.CodeMethod,
			Message: fmt.Sprintf("%s accepts %s, not %s", wire.Shorten(r.URL.Path), right, r.Method),
		})
	}
}

// handleCall reads a call, plans it and serves it.
func (rt *Router) handleCall(w http.ResponseWriter, r *http.Request, d wire.Dialect, localOnly bool) {
	s := rt.routing.Load()
	key := access.CallerKey(r.Context())
	c := &request.Request{
		ID: w.Header().Get(wire.HeaderRequestID), Method: r.Method, Path: r.URL.Path,
		Header: r.Header, Dialect: d, Began: time.Now(), Key: key.KeyName(),
	}
	held, refuse := readBody(w, r, s.MaxBody)
	if refuse.Status == 0 {
		defer held.Release()
		var err error
		if c.Body, err = parse(d, s.Engine.Fields, held.Bytes, r.Header); err != nil {
			refuse = invalid(err.Error())
		}
		c.Body.Buffer = held
	}
	name := c.Body.Model
	if refuse.Status == 0 && name == "" {
		if name = models.LocalName; !localOnly {
			refuse = invalid("\"model\" is missing; GET /v1/models lists the names")
		}
	}
	p := plan.Plan{Rejection: refuse}
	if refuse.Status == 0 {
		p = s.PlanFor(key, name)
		if localOnly {
			p.RequireLocal(r.URL.Path)
		}
		if e := s.CheckChoices(key, c); e.Status != 0 && p.Rejection.Status == 0 {
			p = plan.Plan{Route: p.Route, Rejection: e}
		}
		p.RequireLocalField(c)
		p.CheckBudget(c)
	}
	p.Accounting = s.Accounting
	rt.serve(w, r, c, p)
}

// parse parses a body: a form or JSON.
func parse(d wire.Dialect, fields models.EngineFields, raw []byte, h http.Header) (request.Body, error) {
	if _, ok := d.(wire.Audio); ok && request.IsForm(h) {
		return request.ParseForm(raw, h)
	}
	return request.ParseBodyFor(fields, raw)
}

// initialBodySize is the initial size of the buffer for a body of unknown length, in bytes.
const initialBodySize = 4 << 10

// readBody reads a request's body into a buffer, which the caller must release.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (*request.Buffer, wire.Error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, wire.Error{
			Status: http.StatusUnsupportedMediaType, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody,
			Message: "Content-Encoding is not supported; send the body uncompressed",
		}
	}
	if r.ContentLength > limit { // rejected before the body is read
		return nil, bodyTooLarge(limit)
	}
	// One byte more than needed, so that the last read returns the end, too.
	size := r.ContentLength
	if size < 0 {
		size = initialBodySize
	}
	b := request.NewBuffer(int(size) + 1)
	if err := b.Fill(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		b.Release()
		return nil, bodyError(err, limit)
	}
	bodyArrived(w)
	return b, wire.Error{}
}

// bodyError returns the client's error for a body that could not be read.
func bodyError(err error, limit int64) wire.Error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return bodyTooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return wire.Error{
			Status: http.StatusRequestTimeout, Type: wire.TypeInvalid, Code: wire.CodeSlowBody,
			Message: "request body did not arrive in time (body_timeout in llmsup.yaml)",
		}
	}
	return invalid("cannot read the request body: " + wire.RootCause(err))
}

func bodyTooLarge(limit int64) wire.Error {
	return wire.Error{
		Status: http.StatusRequestEntityTooLarge, Type: wire.TypeInvalid, Code: wire.CodeTooLarge,
		Message: fmt.Sprintf("request body exceeds %d bytes (max_body in llmsup.yaml)", limit),
	}
}

func invalid(message string) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody, Message: message}
}

// requestID returns the client's own request id if it is valid, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(wire.HeaderRequestID)
	if id == "" || len(id) > 128 {
		return newRequestID()
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return newRequestID()
		}
	}
	return id
}

func newRequestID() string { return rand.Text() }
