package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Explanation is the backend to which a call for a model would go now, and why.
type Explanation struct {
	Model          string // as a client would send it
	Route          models.Route
	Backend        string // "" = the call would be rejected
	BackendModel   string
	Reason         backend.Reason    // why it is not the primary; "" = it is
	Detail         string            // the reason in plain text
	WaitFor        string            // why the call would wait, as in "qwen is loading"; "" = it would not
	WaitLimit      time.Duration     // for how long it would wait at most
	Edits          *models.Edits     // of the call's parameters for Backend; nil = none
	Timeout        time.Duration     // for the first answer of Backend
	Next           []models.Fallback // the backends that are tried after Backend, in order
	Rejected       string            // the client's error; "" = there is a backend
	RejectedStatus int
}

// Explain plans a call without making it.
func (s *Routing) Explain(model string) Explanation {
	p := s.Plan(model)
	r := &request.Request{Began: time.Now(), Dialect: wire.Chat}
	s.OrderBoxes(&p, r)
	p.CheckBudget(r)
	e := Explanation{Model: model, Route: p.Route, Reason: p.Reason, Detail: p.Detail, WaitFor: p.WaitFor, Rejected: p.Rejection.Message, RejectedStatus: p.Rejection.Status}
	e.WaitLimit, e.Timeout = p.WaitLimit(), p.Route.Timeout
	left := Kept(p.Candidates)
	if len(left) > 0 {
		if !left[0].Primary {
			e.Timeout = p.FallbackTimeout
		}
		e.Backend, e.BackendModel, e.Edits = left[0].Name, left[0].Model, left[0].Edits
	}
	if len(left) > 1 {
		for _, c := range left[1:] {
			e.Next = append(e.Next, models.Fallback{To: c.Name, Model: c.Model, Edits: c.Edits})
		}
	} else if why := p.NoFallback(); why != "" && e.Rejected == "" {
		e.Detail = strings.TrimPrefix(e.Detail+"; "+why, "; ")
	}
	return e
}

// RoutesWithoutFallback returns the routes, sorted by name, whose calls no backend could
// answer while the given local servers are drained.
func (s *Routing) RoutesWithoutFallback(drained []string) (routes []string) {
	for _, route := range s.Table.Routes() {
		if s.Server(route.Primary) == nil || !slices.Contains(drained, route.Primary) || s.Boxes.Usable(route.Primary) {
			continue
		}
		answers := slices.ContainsFunc(route.FallbackList(), func(f models.Fallback) bool {
			if u, ok := s.Backends[f.To].(*backend.Upstream); ok {
				return u.Availability().MissingKey == "" && !u.IsLoop()
			}
			return !slices.Contains(drained, f.To)
		})
		if !answers || !FallsBackOn(route, backend.Draining) || !FallsBackOn(route, backend.Drained) {
			routes = append(routes, route.Name)
		}
	}
	slices.Sort(routes)
	return routes
}

// UpstreamHealth is whether an upstream can be used.
type UpstreamHealth struct {
	Name   string
	Reason string // why it cannot be used; "" = it can
	// MissingKey means that it needs an API key and has none; Reason says what to set.
	MissingKey bool
}

// Upstreams returns the upstreams, sorted by name.
func (s *Routing) Upstreams() []UpstreamHealth {
	list := []UpstreamHealth{}
	for _, name := range s.SortedBackends() {
		if b, ok := s.Backends[name].(*backend.Upstream); ok {
			now := b.Availability()
			list = append(list, UpstreamHealth{Name: b.Info().Name, Reason: cmp.Or(now.MissingKey, now.Detail), MissingKey: now.MissingKey != ""})
		}
	}
	return list
}

// Sentence says where the call would go and why.
func (e Explanation) Sentence() string {
	if e.Backend == "" {
		return fmt.Sprintf("it would be refused with %d: %s", e.RejectedStatus, e.Rejected)
	}
	s := fmt.Sprintf("it goes to %s as %s", e.Backend, e.BackendModel)
	if slices.Contains(e.Route.Aliases, e.Model) {
		s = "it is an alias of " + e.Route.Name + ", so " + s
	}
	if e.WaitFor != "" {
		s += fmt.Sprintf("; %s, so it waits for up to %s", e.WaitFor, e.WaitLimit)
	}
	if e.Route.WhileLoading != 0 && e.WaitFor == "" && e.Reason == "" {
		s += fmt.Sprintf("; while %s loads, it would wait (while_loading: %s)", e.Route.Primary, e.Route.WhileLoading)
	}
	if e.Reason != "" {
		s += fmt.Sprintf(", because %s", e.Detail)
	}
	switch {
	case len(e.Next) > 0:
		var next []string
		for _, f := range e.Next {
			next = append(next, fmt.Sprintf("to %s as %s", f.To, f.Model))
		}
		s += fmt.Sprintf("; if that fails, or gives no answer within %s, %s", e.Timeout, strings.Join(next, ", then "))
	case e.Reason != "":
	case e.Detail != "":
		s += "; " + e.Detail
	default:
		s += "; the route has no fallback"
	}
	return s
}
