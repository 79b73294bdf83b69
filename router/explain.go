package router

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Explanation is where a call for a model would go now, and why.
type Explanation struct {
	Route         models.Route
	Backend       string // "" when the call would be refused
	BackendModel  string
	Reason        Reason // why not the primary; "" when it would be
	Detail        string // the same for a person
	WaitFor       string // the state of Backend for whose end the call would wait, as in "qwen is loading"; "" = it would not wait
	Spare         string // who is asked when that backend fails; "" = nobody
	SpareModel    string
	Refused       string // the client's error; "" when there is a backend
	RefusedStatus int
}

// Explain plans a call without making it.
func (rt *Router) Explain(model string) Explanation {
	s := rt.routing.Load()
	p := s.plan(model)
	p.afford(&request.Request{Began: time.Now(), Dialect: wire.Chat})
	e := Explanation{Route: p.route, Reason: p.reason, Detail: p.detail, WaitFor: p.waitFor, Refused: p.refuse.Message, RefusedStatus: p.refuse.Status}
	if len(p.steps) > 0 {
		e.Backend, e.BackendModel = p.steps[0].backend.name(), p.steps[0].model
	}
	if len(p.steps) > 1 {
		e.Spare, e.SpareModel = p.steps[1].backend.name(), p.steps[1].model
	} else if p.noSpare != "" && e.Refused == "" {
		e.Detail = strings.TrimPrefix(e.Detail+"; "+p.noSpare, "; ")
	}
	return e
}

// Stranded returns the routes, sorted by name, whose calls no backend could answer
// while the given local servers are drained.
func (rt *Router) Stranded(drained []string) (routes []string) {
	s := rt.routing.Load()
	for _, route := range s.table.Routes() {
		if s.local(route.Primary) == nil || !slices.Contains(drained, route.Primary) {
			continue
		}
		answers := false
		switch fallback := s.backends[route.Fallback].(type) {
		case *upstreamBackend:
			answers = fallback.availability().noKey == "" && !fallback.itself.Load()
		case *localBackend:
			answers = !slices.Contains(drained, route.Fallback)
		}
		if !answers || !mayFallBack(route, Draining) || !mayFallBack(route, Drained) {
			routes = append(routes, route.Name)
		}
	}
	slices.Sort(routes)
	return routes
}

// UpstreamHealth is what the router knows of an upstream.
type UpstreamHealth struct {
	Name   string
	Reason string // why it can't be used; "" when it can
}

// Upstreams returns the endpoints that somebody else runs, sorted by name.
func (rt *Router) Upstreams() []UpstreamHealth {
	s := rt.routing.Load()
	list := []UpstreamHealth{}
	for _, name := range s.sortedBackends() {
		if b, ok := s.backends[name].(*upstreamBackend); ok {
			now := b.availability()
			list = append(list, UpstreamHealth{Name: b.Name, Reason: cmp.Or(now.noKey, now.detail)})
		}
	}
	return list
}
