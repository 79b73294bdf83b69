package router

import (
	"context"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// handleCall reads a call, plans it and serves it.
func (rt *Router) handleCall(w http.ResponseWriter, r *http.Request, e *endpoint.Endpoint) {
	s := rt.routing.Load()
	c := &request.Request{
		ID: w.Header().Get(wire.HeaderRequestID), Method: r.Method, Path: r.URL.Path,
		Header: r.Header, Dialect: e.Dialect, Began: time.Now(), Number: s.Accounting.Ledger.NewNumber(),
		Key: access.CallerKey(r.Context()).KeyName(), Server: e.ForOperators(),
	}
	if hop := hopOf(r.Context()); hop != nil {
		c.FromBox = hop.Box
	}
	if r.Method == http.MethodHead {
		c.Method = http.MethodGet
	}
	held, invalid := request.Read(w, r, e.Form, s.Bodies)
	if held != nil {
		defer held.Release()
	}
	if invalid.Status == 0 {
		invalid = parseCall(s, r, c, e, held)
	}
	p := plan.Plan{Rejection: invalid}
	if invalid.Status == 0 {
		p = rt.planCall(r.Context(), s, c, e)
	}
	p.Accounting = s.Accounting
	rt.serve(w, r, c, p)
}

// parseCall parses the body of a call, and finds the call's model. It returns the client's error;
// Status 0 = there is none.
func parseCall(s *plan.Routing, r *http.Request, c *request.Request, e *endpoint.Endpoint, held *request.Buffer) wire.Error {
	var err error
	c.Body, err = parseBody(e, c.Method, s.Engine.Fields, held, r.Header)
	c.Body.Buffer = held
	if err != nil {
		return request.Invalid(err.Error())
	}
	if missing := nameModel(s, r, c, e); c.FromBox == "" { // another box names the server itself
		return missing
	}
	return wire.Error{}
}

// planCall plans a call that has been read. A call to a path of the engine's own API becomes one
// to the public path of the same meaning if the primary has only that.
func (rt *Router) planCall(ctx context.Context, s *plan.Routing, c *request.Request, e *endpoint.Endpoint) plan.Plan {
	key, hop := access.CallerKey(ctx), hopOf(ctx)
	planAt := func(path string) plan.Plan {
		if hop != nil {
			return s.PlanHop(hop, path)
		}
		return s.PlanFor(key, c.Body.Model, path)
	}
	p := planAt(e.Path)
	if public := rt.endpoints.Public(e); public != nil && !p.PrimaryHas(e.Path) {
		e, c.Path, c.Dialect = public, public.Path, public.Dialect
		p = planAt(e.Path)
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
	if denied := s.CheckChoices(key, c); denied.Status != 0 && p.Rejection.Status == 0 && hop == nil {
		p = plan.Plan{Route: p.Route, Rejection: denied}
	}
	c.Route = p.Route.Name
	if !e.ForOperators() { // such a body has no parameters of a call
		p.EditRequest(c)
	}
	p.RequireLocalField(c)
	p.CheckBudget(c)
	return p
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

// parseBody parses a body: a form, JSON, or whatever the server that it is about accepts.
func parseBody(e *endpoint.Endpoint, method string, fields models.EngineFields, held *request.Buffer, h http.Header) (request.Body, error) {
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
