package plan

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/wire"
)

// Plan lists the backends that may answer a call, in order, and why the others are
// skipped.
type Plan struct {
	Route           models.Route
	Candidates      []Candidate    // in the order in which they are tried
	ToLoad          *Candidate     // the box that would have to load the model, if the boxes that are asked are busy; nil = none
	waitCandidate   *Candidate     // the primary, else a fallback, if it is a server that accepts calls again soon
	WaitFor         string         // the state for whose end the call waits, as in "qwen is loading"; "" = it does not wait
	Reason          backend.Reason // why the primary is bypassed; "" = it comes first
	Detail          string         // the reason in plain text
	retryAfter      int            // seconds after which the client should retry a rejected call
	needsOperator   bool           // the primary is bypassed until an operator acts
	FallbackBlocked string         // why the call may not move to the remaining fallbacks; "" = it may
	NeedsLocalField bool           // a fallback is skipped because it ignores a field that the call depends on
	Rejection       wire.Error     // the client's error; Status 0 = there are candidates

	Accounting *accounting.Accounting
	Timeouts

	routing      *Routing          // where boxes are found that return; nil = the call goes to no other box
	path         string            // of the call's endpoint; "" = any
	Server       *backend.Server   // the route's local server; nil = it has none
	LocalPrimary bool              // Server is the route's primary
	Preferred    []*backend.Server // those that would answer the call if they accepted calls already: see returningFirst
	Baseline     Baseline          // what an answer of Server saves
	Hop          *boxes.Hop        // the call is one of another box of the fleet; nil = a client's
	OverBudget   *budget.Exceeded  // the limit because of which a metered candidate is skipped; nil = none
}

// Baseline is the model that would be paid for without a GPU. It is zero if no upstream
// has it.
type Baseline struct{ Backend, Model string }

// Plan returns the plan of a call without a key, as `llmsup route` shows it. It waits for
// no I/O.
func (s *Routing) Plan(model string) Plan {
	return s.PlanFor(nil, model, "")
}

// planRoute returns the plan of a call that takes a route.
func (s *Routing) planRoute(route models.Route, model, path string) Plan {
	p := Plan{Route: route, routing: s, path: path, Accounting: s.Accounting, Timeouts: s.timeouts, Baseline: s.baseline(route, model)}
	primary, fallbacks := s.candidate(route.Primary, route.PrimaryModel, model), s.fallbacks(route, model, path)
	primary.Primary, primary.Edits = true, route.Edits
	now := s.availability(primary.Backend, path)
	primary.Returning, primary.unsupported, p.retryAfter = now.Returning && !isAbsent(primary), now.Reason == backend.Unsupported, now.RetryAfter
	p.LocalPrimary = primary.Local
	p.Server = firstServer(primary, fallbacks)
	if isAbsent(primary) {
		now.Alive = false // it gets no call itself
	}
	others, degraded := s.onOtherBoxes(primary, route.Primary)
	if !now.Usable() && firstKept(others) == nil && !p.hasFallback(fallbacks, now.Reason) {
		others, degraded = append(others, degraded...), nil
	}
	elsewhere := firstKept(others) != nil
	if !now.Usable() && !elsewhere {
		p.Preferred = returningFirst(primary, fallbacks)
	}
	fallbacks = append(others, fallbacks...)
	p.setWaitCandidate(primary, fallbacks, now)
	switch {
	case elsewhere && isAbsent(primary):
		p.Candidates = fallbacks
	case elsewhere:
		p.orderCandidates(primary, fallbacks, now)
	case now.MissingKey != "":
		p.orderWithoutKey(primary, fallbacks, model, now.MissingKey)
	case len(fallbacks) > 0 && now.Reason != "" && !FallsBackOn(route, now.Reason):
		p.FallbackBlocked = NotInFallbackOn(now.Reason)
		p.keepPrimary(primary, fallbacks, now)
	case now.Returning && firstKept(fallbacks) != nil && WaitsFor(route, now.Reason):
		p.keepPrimary(primary, fallbacks, now)
	default:
		p.orderCandidates(primary, fallbacks, now)
	}
	p.Candidates = append(p.Candidates, degraded...)
	return p
}

// setWaitCandidate sets the server that a call without another backend waits for.
func (p *Plan) setWaitCandidate(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	if primary.Returning {
		c := primary
		p.waitCandidate = &c
		return
	}
	allowed := now.Reason == "" || FallsBackOn(p.Route, now.Reason)
	if i := slices.IndexFunc(fallbacks, func(c Candidate) bool { return c.Returning && (allowed || c.OtherBox) }); i >= 0 {
		c := fallbacks[i]
		c.skipReason = ""
		p.waitCandidate, p.retryAfter = &c, c.Backend.Availability().RetryAfter
	}
}

// orderWithoutKey orders the candidates of a route whose primary has no key.
func (p *Plan) orderWithoutKey(primary Candidate, fallbacks []Candidate, model, missing string) {
	primary.skipReason = fmt.Sprintf("%s has no API key: %s", p.Route.Primary, missing)
	p.Candidates = append(fallbacks, primary)
	if firstKept(fallbacks) != nil {
		p.Reason, p.Detail, p.needsOperator = backend.Failed, primary.skipReason, true
		return
	}
	p.Rejection = p.withRetry(wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeNoKey,
		Message: fmt.Sprintf("%s goes to %s, which has no API key: %s", model, p.Route.Primary, missing),
	}, 0, true)
	if why := p.NoFallback(); why != "" {
		p.Rejection.Message += "; " + why
	}
}

// bypassPrimary records why the primary does not come first.
func (p *Plan) bypassPrimary(now backend.Availability) {
	p.Reason, p.Detail, p.needsOperator = now.Reason, p.Route.Primary+" "+now.Detail, now.NeedsOperator
}

// Bypassed returns why the primary was not asked first; nil = it was.
func (p *Plan) Bypassed() *backend.Failure {
	if p.Reason == "" {
		return nil
	}
	name, detail, _ := strings.Cut(p.Detail, " ")
	return &backend.Failure{
		Backend: name, Reason: p.Reason, Detail: detail,
		RetryAfter: p.retryAfter, NeedsOperator: p.needsOperator,
	}
}

// keepPrimary orders the candidates if fallback_on does not list the primary's present
// reason, or while_loading has the call wait: it goes to the primary, or waits for it. It
// moves to the fallbacks only for a later reason that fallback_on lists, or when it has
// waited for long enough.
func (p *Plan) keepPrimary(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	switch {
	case now.Usable():
		p.Candidates = []Candidate{primary}
	case primary.Returning && firstKept(fallbacks) != nil:
		p.Candidates = append([]Candidate{primary}, fallbacks...)
		p.waitForServer()
	default:
		p.bypassPrimary(now)
		if !p.waitForServer() {
			p.Rejection = p.unavailableError()
		}
	}
}

// orderCandidates orders the candidates of a route whose calls may move to its fallbacks.
func (p *Plan) orderCandidates(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	usable := firstKept(fallbacks) != nil
	primary.LastResort = now.Usable() && now.Reason != ""
	switch {
	case now.Reason == "", now.Usable() && !usable:
		p.Candidates = append([]Candidate{primary}, fallbacks...)
		if !usable && p.waitCandidate != nil && !p.waitCandidate.Primary { // waiting is better than an error, if the primary fails
			p.Candidates = append(p.Candidates, *p.waitCandidate)
		}
	case now.Usable(): // it is degraded: its answer is better than an error
		p.bypassPrimary(now)
		p.Candidates = append(fallbacks, primary)
	case usable:
		p.bypassPrimary(now)
		if !primary.Returning { // waiting for it is better than an error, if the fallbacks fail
			primary.skipReason = p.Detail
		}
		p.Candidates = append(fallbacks, primary)
	default:
		p.bypassPrimary(now)
		primary.skipReason = p.Detail
		p.Candidates = append(fallbacks, primary)
		if !p.waitForServer() {
			p.Rejection = p.unavailableError()
		}
	}
}

// waitForServer makes a call whose candidates are all skipped wait for the server that will
// accept calls again. It returns false if there is no such server.
func (p *Plan) waitForServer() bool {
	first := firstKept(p.Candidates)
	if p.waitCandidate == nil || first != nil && !first.Returning {
		return false
	}
	if first == nil {
		p.Candidates = append([]Candidate{*p.waitCandidate}, p.Candidates...)
	}
	p.Rejection = wire.Error{}
	p.WaitFor = p.waitCandidate.Name + " " + p.waitCandidate.Backend.Availability().Detail
	if p.waitCandidate.Primary {
		p.Reason, p.Detail = "", "" // the primary is not bypassed
	}
	return true
}

// baseline returns what an answer of a route's server saves.
func (s *Routing) baseline(route models.Route, model string) Baseline {
	for _, target := range append(route.FallbackList(), models.Fallback{To: route.Primary, Model: route.PrimaryModel}) {
		if b := s.Backends[target.To]; b != nil && b.Info().Metered {
			return Baseline{b.Info().Name, ModelAt(b, target.Model, model)}
		}
	}
	return Baseline{}
}

// Redact removes the keys of all backends of the plan from a text.
func (p *Plan) Redact(text string) string {
	for _, c := range p.Candidates {
		text = c.Backend.Redact(text)
	}
	return text
}

// FallsBackOn reports whether a route's calls go to its fallbacks for a reason.
func FallsBackOn(route models.Route, reason backend.Reason) bool {
	return route.FallbackOn == "" || route.FallbackOn.Has(string(reason))
}

// NotInFallbackOn is the message for a reason that fallback_on does not list.
func NotInFallbackOn(reason backend.Reason) string {
	return fmt.Sprintf("the route's fallback_on does not list %s", reason)
}

// unavailableError returns the error of a call that no backend of its route can answer now.
func (p *Plan) unavailableError() wire.Error {
	e := p.withRetry(wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason), Message: p.AddFallbackReason(p.Detail),
	}, max(p.retryAfter, 1), p.needsOperator)
	return p.blameRequest(e)
}

// blameRequest makes the error of a call that its model can never answer a 400: the client has
// to name another model, or another path. It is a 501 if the primary's engine lacks a public path.
func (p *Plan) blameRequest(e wire.Error) wire.Error {
	if p.Reason == backend.Unsupported && e.Definite {
		e.Status, e.Type, e.RetryAfter = http.StatusBadRequest, wire.TypeInvalid, 0
		if p.LocalPrimary && p.Server != nil && isPublic(p.path) && !p.Server.Engine().HasPublic(p.path) {
			e.Status = http.StatusNotImplemented
		}
	}
	return e
}

// withRetry adds to an error when the client should retry: after the seconds of the primary,
// unless that needs an operator, or when a skipped fallback may accept calls.
func (p *Plan) withRetry(e wire.Error, seconds int, needsOperator bool) wire.Error {
	e.RetryAfter, e.Definite = seconds, needsOperator
	for _, c := range p.Candidates {
		if c.retryAfter > 0 && (e.Definite || c.retryAfter < e.RetryAfter) {
			e.RetryAfter, e.Definite = c.retryAfter, false
		}
	}
	return e
}

// WhyNoFallback returns why no fallback can answer; "" = one could be asked.
func (p *Plan) WhyNoFallback() string {
	if why := p.NoFallback(); why != "" || len(p.Route.FallbackList()) > 0 {
		return why
	}
	return "the route " + p.Route.Name + " has no fallback"
}

// AddFallbackReason adds to a message why no fallback can answer.
func (p *Plan) AddFallbackReason(message string) string {
	return strings.TrimSuffix(message+"; "+p.WhyNoFallback(), "; ")
}

// unknownModelError returns the error for an unknown model, with the models that the key may use.
func (s *Routing) unknownModelError(k *access.Key, model string) wire.Error {
	var names []string
	for name, route := range s.ByName() {
		if allowsName(k, name, route) {
			names = append(names, name)
		}
	}
	return wire.Error{
		Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeModelNotFound,
		Message: fmt.Sprintf("the model %s does not exist; available models: %s", wire.Quote(wire.Shorten(model)), strings.Join(names, ", ")),
	}
}
