package router

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/modellist"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// modelPrefix precedes the name of a model in the path of its page.
const modelPrefix = "/v1/models/"

// routes returns the handler of all public paths. It is no http.ServeMux, which redirects a
// path that it does not know exactly: clients do not repeat a POST at another path.
func (rt *Router) routes() http.Handler {
	list := &modellist.Handler{Routing: rt.routing.Load, Created: time.Now().Unix()}
	rt.list = list
	pages := map[string]http.HandlerFunc{
		"/v1/models": list.List, modelPrefix: list.Show, healthPath: rt.health,
		"/metrics": rt.operatorOnly(metricsHandler(rt.registry, rt.log)),
	}
	rt.inside = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		switch page := pages[at]; {
		case page == nil:
			rt.notFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			rt.wrongMethod(w, r, http.MethodGet)
		default:
			page(w, r)
		}
	})
	guarded := rt.guard(rt.inside)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderRequestID, request.IDOf(r))
		guarded.ServeHTTP(w, withPath(r, rt.endpoints.Main(r.URL.Path)))
	})
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
	key := access.CallerKey(r.Context())
	switch {
	case !e.Accepts(r.Method):
		rt.wrongMethod(w, r, e.Methods()...)
	case e.ForOperators() && key != nil && !key.Operator:
		rt.reject(w, r, operatorError(r.URL.Path, key))
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

// handleCall reads a call, plans it and serves it.
func (rt *Router) handleCall(w http.ResponseWriter, r *http.Request, e *endpoint.Endpoint) {
	s := rt.routing.Load()
	key, hop := access.CallerKey(r.Context()), hopOf(r.Context())
	c := &request.Request{
		ID: w.Header().Get(wire.HeaderRequestID), Method: r.Method, Path: r.URL.Path,
		Header: r.Header, Dialect: e.Dialect, Began: time.Now(), Number: s.Accounting.Ledger.NewNumber(),
		Key: key.KeyName(), Server: e.ForOperators(),
	}
	planned := func(path string) plan.Plan { return s.PlanFor(key, c.Body.Model, path) }
	if hop != nil {
		c.FromBox = hop.Box
		planned = func(path string) plan.Plan { return s.PlanHop(hop, path) }
	}
	if r.Method == http.MethodHead {
		c.Method = http.MethodGet
	}
	held, refuse := request.Read(w, r, e.Form, s.Bodies)
	if refuse.Status == 0 {
		defer held.Release()
		var err error
		if c.Body, err = parse(e, c.Method, s.Engine.Fields, held, r.Header); err != nil {
			refuse = request.Invalid(err.Error())
		}
		c.Body.Buffer = held
	}
	if refuse.Status == 0 {
		if refuse = nameModel(s, r, c, e); hop != nil { // it names the server itself
			refuse = wire.Error{}
		}
	}
	p := plan.Plan{Rejection: refuse}
	if refuse.Status == 0 {
		p = planned(e.Path)
		if public := rt.endpoints.Public(e); public != nil && !p.PrimaryHas(e.Path) {
			e, c.Path, c.Dialect = public, public.Path, public.Dialect
			p = planned(e.Path)
		}
		if e.LocalOnly() {
			c.Body.AddModel = false // its body stays as it is: llama-server needs no name
			if c.Server {           // it has no model loaded, and is about this box
				p.Preferred = nil
				p.OnlyThisBox()
			}
			p.RequireLocal(c.Path)
		}
		s.OrderBoxes(&p, c)
		if e := s.CheckChoices(key, c); e.Status != 0 && p.Rejection.Status == 0 && hop == nil {
			p = plan.Plan{Route: p.Route, Rejection: e}
		}
		c.Route = p.Route.Name
		if !e.ForOperators() { // such a body has no parameters of a call
			p.EditRequest(c)
		}
		p.RequireLocalField(c)
		p.CheckBudget(c)
	}
	p.Accounting = s.Accounting
	rt.serve(w, r, c, p)
}

// nameModel completes a call whose body names no model: by its query, or by the endpoint's
// default. It returns the client's error if neither names one; Status 0 = the call has a
// model.
func nameModel(s *plan.Routing, r *http.Request, c *request.Request, e *endpoint.Endpoint) wire.Error {
	if e.LocalOnly() && r.URL.RawQuery != "" {
		query := r.URL.Query()
		c.Query = e.Query(query)
		if c.Body.Model == "" {
			c.Body.Model, c.Body.AddModel = query.Get("model"), true
		}
	}
	if c.Body.Model == "" {
		if !s.Knows(e.DefaultModel) {
			return request.Invalid("\"model\" is missing; GET /v1/models lists the names")
		}
		c.Body.Model, c.Body.AddModel = e.DefaultModel, true
	}
	return wire.Error{}
}

// parse parses a body: a form, JSON, or whatever the server that it is about accepts.
func parse(e *endpoint.Endpoint, method string, fields models.EngineFields, held *request.Buffer, h http.Header) (request.Body, error) {
	switch {
	case method == http.MethodGet: // the body of a GET has no meaning
		return request.Body{}, nil
	case e.ForOperators():
		return request.Body{Raw: held.Bytes}, nil
	case e.Form && request.IsForm(h):
		return held.ParseForm(h)
	default:
		return request.ParseBodyFor(fields, held.Bytes)
	}
}
