package plan

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/wire"
)

// Plan says which backends may answer a call, in which order, and why the others are
// skipped.
type Plan struct {
	Route      models.Route
	Candidates []Candidate    // in the order in which they are tried
	wait       *Candidate     // the primary or else a fallback, if it is a server that returns
	WaitFor    string         // the call waits for it, and this is its state, as in "qwen is loading"
	Reason     backend.Reason // why the primary is passed over; "" when it comes first
	Detail     string         // the same for a person
	retryAfter int            // seconds until a call that is passed over is worth another try
	Stopped    string         // why the call may not move to the fallbacks that are left; "" = it may
	Bound      bool           // a fallback is skipped because it ignores a field that the call depends on
	Refuse     wire.Error     // Status 0 when there are candidates

	Accounting      *accounting.Accounting
	FallbackTimeout time.Duration // to a fallback's first answer
	IdleTimeout     time.Duration // of a stream that has begun

	Server       *backend.Server  // the route's local server; nil = it has none
	LocalPrimary bool             // that is its primary
	Baseline     Baseline         // what an answer of that server saves
	OverBudget   *budget.Exceeded // why a metered candidate is skipped; nil = no budget is in the way
}

// Baseline is the model that would be paid for if there were no GPU: the zero value if no
// upstream has it.
type Baseline struct{ Backend, Model string }

// Plan is the routing decision. It is the same for a call and for the question of
// `llmsup route`, takes no lock, and never blocks.
func (s *Routing) Plan(model string) Plan {
	return s.PlanFor(nil, model)
}

// planRoute is the plan of a call that takes a route.
func (s *Routing) planRoute(route models.Route, model string) Plan {
	p := Plan{Route: route, Accounting: s.Accounting, FallbackTimeout: s.fallbackTimeout, IdleTimeout: s.idleTimeout, Baseline: s.baseline(route, model)}
	primary, fallbacks := s.candidate(route.Primary, route.PrimaryModel, model), s.fallbacks(route, model)
	primary.Primary = true
	now := primary.Backend.Availability()
	primary.Returns, p.retryAfter = now.Returning, now.RetryAfter
	p.Server, p.LocalPrimary = primary.Backend.(*backend.Server)
	for _, c := range fallbacks {
		if server, ok := c.Backend.(*backend.Server); ok && p.Server == nil {
			p.Server = server
		}
	}
	p.mayWaitFor(primary, fallbacks, now)
	switch {
	case now.MissingKey != "":
		p.withoutKey(primary, fallbacks, model, now.MissingKey)
	case len(fallbacks) > 0 && now.Reason != "" && !FallsBackOn(route, now.Reason):
		p.keepPrimary(primary, fallbacks, now)
	default:
		p.order(primary, fallbacks, now)
	}
	return p
}

// mayWaitFor notes the server that a call without another backend waits for.
func (p *Plan) mayWaitFor(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	if primary.Returns {
		c := primary
		p.wait = &c
		return
	}
	if now.Reason != "" && !FallsBackOn(p.Route, now.Reason) {
		return
	}
	if i := slices.IndexFunc(fallbacks, func(c Candidate) bool { return c.Returns }); i >= 0 {
		c := fallbacks[i]
		c.skipped = ""
		p.wait, p.retryAfter = &c, c.Backend.Availability().RetryAfter
	}
}

// withoutKey orders the candidates of a route whose primary has no key.
func (p *Plan) withoutKey(primary Candidate, fallbacks []Candidate, model, missing string) {
	primary.skipped = fmt.Sprintf("%s has no key: %s", p.Route.Primary, missing)
	p.Candidates = append(fallbacks, primary)
	if firstKept(fallbacks) != nil {
		p.Reason, p.Detail = backend.Failed, primary.skipped
		return
	}
	p.Refuse = wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeNoKey,
		Message: fmt.Sprintf("%s goes to %s, which has no key: %s", model, p.Route.Primary, missing),
	}
	if why := p.NoFallback(); why != "" {
		p.Refuse.Message += "; " + why
	}
}

// passOver notes why the primary is not asked first.
func (p *Plan) passOver(now backend.Availability) {
	p.Reason, p.Detail = now.Reason, p.Route.Primary+" "+now.Detail
}

// keepPrimary orders the candidates where fallback_on does not have the primary's present
// reason: the primary is asked, or waited for, and the fallbacks only if a reason comes
// that fallback_on has.
func (p *Plan) keepPrimary(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	p.Stopped = NotInFallbackOn(now.Reason)
	switch {
	case now.Usable():
		p.Candidates = []Candidate{primary}
	case primary.Returns && firstKept(fallbacks) != nil:
		p.Candidates = append([]Candidate{primary}, fallbacks...)
		p.waits()
	default:
		p.passOver(now)
		if !p.waits() {
			p.Refuse = p.unavailable()
		}
	}
}

// order orders the candidates of a route whose calls may move to its fallbacks.
func (p *Plan) order(primary Candidate, fallbacks []Candidate, now backend.Availability) {
	usable := firstKept(fallbacks) != nil
	switch {
	case now.Reason == "", now.Usable() && !usable:
		p.Candidates = append([]Candidate{primary}, fallbacks...)
		if !usable && p.wait != nil && !p.wait.Primary { // better than an error, if the primary fails
			p.Candidates = append(p.Candidates, *p.wait)
		}
	case now.Usable(): // it is degraded, and better than an error
		p.passOver(now)
		p.Candidates = append(fallbacks, primary)
	case usable:
		p.passOver(now)
		if !primary.Returns { // one that returns is better than an error, if the fallbacks fail
			primary.skipped = p.Detail
		}
		p.Candidates = append(fallbacks, primary)
	default:
		p.passOver(now)
		primary.skipped = p.Detail
		p.Candidates = append(fallbacks, primary)
		if !p.waits() {
			p.Refuse = p.unavailable()
		}
	}
}

// waits makes a plan whose candidates are all skipped that of a call which waits for the
// server that returns. It returns false if the call does not wait.
func (p *Plan) waits() bool {
	first := firstKept(p.Candidates)
	if p.wait == nil || first != nil && !first.Returns {
		return false
	}
	if first == nil {
		p.Candidates = append([]Candidate{*p.wait}, p.Candidates...)
	}
	p.Refuse = wire.Error{}
	p.WaitFor = p.wait.Name + " " + p.wait.Backend.Availability().Detail
	if p.wait.Primary {
		p.Reason, p.Detail = "", "" // the primary is not passed over
	}
	return true
}

// Baseline returns what an answer of a route's server saves.
func (s *Routing) baseline(route models.Route, model string) Baseline {
	for _, side := range append(route.FallbackList(), models.Fallback{To: route.Primary, Model: route.PrimaryModel}) {
		if b := s.Backends[side.To]; b != nil && b.Info().Metered {
			return Baseline{b.Info().Name, modelAt(b, side.Model, model)}
		}
	}
	return Baseline{}
}

// Redact removes the keys of all backends of the plan from a text of theirs.
func (p *Plan) Redact(text string) string {
	for _, c := range p.Candidates {
		text = c.Backend.Redact(text)
	}
	return text
}

// FallsBackOn says whether a route's calls go to its fallbacks for a reason.
func FallsBackOn(route models.Route, reason backend.Reason) bool {
	return route.FallbackOn == "" || route.FallbackOn.Has(string(reason))
}

func NotInFallbackOn(reason backend.Reason) string {
	return fmt.Sprintf("the route's fallback_on has no %s", reason)
}

// unavailable is the error of a call that no backend of its route can answer now.
func (p *Plan) unavailable() wire.Error {
	return wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason),
		Message: p.WithFallbacks(p.Detail), RetryAfter: max(p.retryAfter, 1),
	}
}

// WithFallbacks adds to a message why no fallback could help.
func (p *Plan) WithFallbacks(message string) string {
	if why := p.NoFallback(); why != "" {
		return message + "; " + why
	}
	if len(p.Route.FallbackList()) == 0 {
		return message + "; the route " + p.Route.Name + " has no fallback"
	}
	return message
}

// unknownModel lists the models that the key may use.
func (s *Routing) unknownModel(k *access.Key, model string) wire.Error {
	names := slices.DeleteFunc(s.Table.Names(), func(name string) bool { return !k.Allows(name) })
	return wire.Error{
		Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeModelNotFound,
		Message: fmt.Sprintf("the model %s does not exist here; there are: %s", wire.Quote(wire.Shorten(model)), strings.Join(names, ", ")),
	}
}
