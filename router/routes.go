package router

import (
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/wire"
)

// modelPrefix precedes the name of a model in the path of its page.
const modelPrefix = "/v1/models/"

// pagesByPath returns the handlers of the paths that are no endpoint of a model, by their path.
func (rt *Router) pagesByPath() map[string]http.HandlerFunc {
	metrics := metricsHandler(rt.registry, rt.log)
	return map[string]http.HandlerFunc{
		"/v1/models": rt.list.List, modelPrefix: rt.list.Show, healthPath: rt.health,
		"/metrics": func(w http.ResponseWriter, r *http.Request) {
			if !rt.rejectNonOperator(w, r) { // they show the spending of all keys
				metrics.ServeHTTP(w, r)
			}
		},
	}
}

// serveAny serves a request to any path, once the guard has admitted it. The Router is no
// http.ServeMux, which redirects a path that it does not know exactly: clients do not repeat a
// POST at another path.
func (rt *Router) serveAny(w http.ResponseWriter, r *http.Request) {
	if e := rt.endpoints.At(r.URL.Path); e != nil { // nearly all requests
		rt.serveEndpoint(w, r, e)
		return
	}
	// A base URL with a slash at its end leads to a double one. The guard has checked
	// the path as it is, so that none of them is open to requests without a key.
	r = withPath(r, rt.endpoints.Main(path.Clean(r.URL.Path)))
	if e := rt.endpoints.At(r.URL.Path); e != nil {
		rt.serveEndpoint(w, r, e)
		return
	}
	at := r.URL.Path
	if id, ok := strings.CutPrefix(at, modelPrefix); ok {
		r.SetPathValue("id", id)
		at = modelPrefix
	}
	switch page := rt.pages[at]; {
	case page == nil:
		rt.notFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		rt.wrongMethod(w, r, http.MethodGet)
	default:
		page(w, r)
	}
}

// withPath returns a request for another path; the same one if that is its path already.
func withPath(r *http.Request, path string) *http.Request {
	if r.URL.Path == path {
		return r
	}
	other, u := *r, *r.URL // copies: r belongs to net/http
	u.Path, u.RawPath = path, ""
	other.URL = &u
	return &other
}

// serveEndpoint serves a request to an endpoint.
func (rt *Router) serveEndpoint(w http.ResponseWriter, r *http.Request, e *endpoint.Endpoint) {
	switch {
	case !e.Accepts(r.Method):
		rt.wrongMethod(w, r, e.Methods()...)
	case e.ForOperators() && rt.rejectNonOperator(w, r):
	default:
		rt.handleCall(w, r, e)
	}
}

// notFound answers a request for a path that does not exist.
func (rt *Router) notFound(w http.ResponseWriter, r *http.Request) {
	message := fmt.Sprintf("no endpoint at %s %s", r.Method, wire.Shorten(r.URL.Path))
	if meant := rt.endpoints.Suggest(r.URL.Path); meant != "" {
		message += fmt.Sprintf("; use %s: the base URL must end in /v1 for OpenAI's SDKs, and have no /v1 for Anthropic's", meant)
	} else {
		message += "; the endpoints are under /v1, such as POST /v1/chat/completions and GET /v1/models"
	}
	d, _ := rt.endpoints.DialectOf(r)
	wire.WriteError(w, d, wire.Error{Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeNotFound, Message: message})
}

// wrongMethod answers a request whose method its path does not accept.
func (rt *Router) wrongMethod(w http.ResponseWriter, r *http.Request, right ...string) {
	d, _ := rt.endpoints.DialectOf(r)
	w.Header().Set("Allow", strings.Join(right, ", "))
	wire.WriteError(w, d, wire.Error{
		Status: http.StatusMethodNotAllowed, Type: wire.TypeInvalid, Code: wire.CodeMethod,
		Message: fmt.Sprintf("%s accepts %s, not %s", wire.Shorten(r.URL.Path), strings.Join(right, " and "), r.Method),
	})
}
