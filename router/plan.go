package router

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

// plan says which backends may answer a call, in which order, and why the others are
// skipped.
type plan struct {
	route      models.Route
	candidates []candidate    // in the order in which they are tried
	wait       *candidate     // the primary or else a fallback, if it is a server that returns
	waitFor    string         // the call waits for it, and this is its state, as in "qwen is loading"
	reason     backend.Reason // why the primary is passed over; "" when it comes first
	detail     string         // the same for a person
	retryAfter int            // seconds until a call that is passed over is worth another try
	stopped    string         // why the call may not move to the fallbacks that are left; "" = it may
	bound      bool           // a fallback is skipped because it ignores a field that the call depends on
	refuse     wire.Error     // Status 0 when there are candidates

	accounting      *accounting.Accounting
	fallbackTimeout time.Duration // to a fallback's first answer
	idleTimeout     time.Duration // of a stream that has begun

	server       *backend.Server  // the route's local server; nil = it has none
	localPrimary bool             // that is its primary
	baseline     baseline         // what an answer of that server saves
	overBudget   *budget.Exceeded // why a metered candidate is skipped; nil = no budget is in the way
}

// baseline is the model that would be paid for if there were no GPU: the zero value if no
// upstream has it.
type baseline struct{ backend, model string }

// plan is the routing decision. It is the same for a call and for the question of
// `llmsup route`, takes no lock, and never blocks.
func (s *routing) plan(model string) plan {
	return s.planFor(nil, model)
}

// planRoute is the plan of a call that takes a route.
func (s *routing) planRoute(route models.Route, model string) plan {
	p := plan{route: route, accounting: s.accounting, fallbackTimeout: s.fallbackTimeout, idleTimeout: s.idleTimeout, baseline: s.baseline(route, model)}
	primary, fallbacks := s.candidate(route.Primary, route.PrimaryModel, model), s.fallbacks(route, model)
	primary.primary = true
	now := primary.backend.Availability()
	primary.returns, p.retryAfter = now.Returning, now.RetryAfter
	p.server, p.localPrimary = primary.backend.(*backend.Server)
	for _, c := range fallbacks {
		if server, ok := c.backend.(*backend.Server); ok && p.server == nil {
			p.server = server
		}
	}
	p.mayWaitFor(primary, fallbacks, now)
	switch {
	case now.MissingKey != "":
		p.withoutKey(primary, fallbacks, model, now.MissingKey)
	case len(fallbacks) > 0 && now.Reason != "" && !fallsBackOn(route, now.Reason):
		p.keepPrimary(primary, fallbacks, now)
	default:
		p.order(primary, fallbacks, now)
	}
	return p
}

// mayWaitFor notes the server that a call without another backend waits for.
func (p *plan) mayWaitFor(primary candidate, fallbacks []candidate, now backend.Availability) {
	if primary.returns {
		p.wait = &primary
		return
	}
	if now.Reason != "" && !fallsBackOn(p.route, now.Reason) {
		return
	}
	if i := slices.IndexFunc(fallbacks, func(c candidate) bool { return c.returns }); i >= 0 {
		c := fallbacks[i]
		c.skipped = ""
		p.wait, p.retryAfter = &c, c.backend.Availability().RetryAfter
	}
}

// withoutKey orders the candidates of a route whose primary has no key.
func (p *plan) withoutKey(primary candidate, fallbacks []candidate, model, missing string) {
	primary.skipped = fmt.Sprintf("%s has no key: %s", p.route.Primary, missing)
	p.candidates = append(fallbacks, primary)
	if len(kept(fallbacks)) > 0 {
		p.reason, p.detail = backend.Failed, primary.skipped
		return
	}
	p.refuse = wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeNoKey,
		Message: fmt.Sprintf("%s goes to %s, which has no key: %s", model, p.route.Primary, missing),
	}
	if why := p.noFallback(); why != "" {
		p.refuse.Message += "; " + why
	}
}

// passOver notes why the primary is not asked first.
func (p *plan) passOver(now backend.Availability) {
	p.reason, p.detail = now.Reason, p.route.Primary+" "+now.Detail
}

// keepPrimary orders the candidates where fallback_on does not have the primary's present
// reason: the primary is asked, or waited for, and the fallbacks only if a reason comes
// that fallback_on has.
func (p *plan) keepPrimary(primary candidate, fallbacks []candidate, now backend.Availability) {
	p.stopped = notInFallbackOn(now.Reason)
	switch {
	case now.Usable():
		p.candidates = []candidate{primary}
	case primary.returns && len(kept(fallbacks)) > 0:
		p.candidates = append([]candidate{primary}, fallbacks...)
		p.waits()
	default:
		p.passOver(now)
		if !p.waits() {
			p.refuse = p.unavailable()
		}
	}
}

// order orders the candidates of a route whose calls may move to its fallbacks.
func (p *plan) order(primary candidate, fallbacks []candidate, now backend.Availability) {
	usable := len(kept(fallbacks)) > 0
	switch {
	case now.Reason == "", now.Usable() && !usable:
		p.candidates = append([]candidate{primary}, fallbacks...)
		if !usable && p.wait != nil && !p.wait.primary { // better than an error, if the primary fails
			p.candidates = append(p.candidates, *p.wait)
		}
	case now.Usable(): // it is degraded, and better than an error
		p.passOver(now)
		p.candidates = append(fallbacks, primary)
	case usable:
		p.passOver(now)
		if !primary.returns { // one that returns is better than an error, if the fallbacks fail
			primary.skipped = p.detail
		}
		p.candidates = append(fallbacks, primary)
	default:
		p.passOver(now)
		primary.skipped = p.detail
		p.candidates = append(fallbacks, primary)
		if !p.waits() {
			p.refuse = p.unavailable()
		}
	}
}

// waits makes a plan whose candidates are all skipped that of a call which waits for the
// server that returns. It returns false if the call does not wait.
func (p *plan) waits() bool {
	left := kept(p.candidates)
	if p.wait == nil || len(left) > 0 && !left[0].returns {
		return false
	}
	if len(left) == 0 {
		p.candidates = append([]candidate{*p.wait}, p.candidates...)
	}
	p.refuse = wire.Error{}
	p.waitFor = p.wait.Name + " " + p.wait.backend.Availability().Detail
	if p.wait.primary {
		p.reason, p.detail = "", "" // the primary is not passed over
	}
	return true
}

// baseline returns what an answer of a route's server saves.
func (s *routing) baseline(route models.Route, model string) baseline {
	for _, side := range append(route.FallbackList(), models.Fallback{To: route.Primary, Model: route.PrimaryModel}) {
		if b := s.backends[side.To]; b != nil && b.Info().Metered {
			return baseline{b.Info().Name, modelAt(b, side.Model, model)}
		}
	}
	return baseline{}
}

// redact removes the keys of all backends of the plan from a text of theirs.
func (p *plan) redact(text string) string {
	for _, c := range p.candidates {
		text = c.backend.Redact(text)
	}
	return text
}

// fallsBackOn says whether a route's calls go to its fallbacks for a reason.
func fallsBackOn(route models.Route, reason backend.Reason) bool {
	return route.FallbackOn == "" || route.FallbackOn.Has(string(reason))
}

func notInFallbackOn(reason backend.Reason) string {
	return fmt.Sprintf("the route's fallback_on has no %s", reason)
}

// unavailable is the error of a call that no backend of its route can answer now.
func (p *plan) unavailable() wire.Error {
	return wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.reason),
		Message: p.withFallbacks(p.detail), RetryAfter: max(p.retryAfter, 1),
	}
}

// withFallbacks adds to a message why no fallback could help.
func (p *plan) withFallbacks(message string) string {
	if why := p.noFallback(); why != "" {
		return message + "; " + why
	}
	if len(p.route.FallbackList()) == 0 {
		return message + "; the route " + p.route.Name + " has no fallback"
	}
	return message
}

// unknownModel lists the models that the key may use.
func (s *routing) unknownModel(k *access.Key, model string) wire.Error {
	names := slices.DeleteFunc(s.table.Names(), func(name string) bool { return !k.Allows(name) })
	return wire.Error{
		Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeModelNotFound,
		Message: fmt.Sprintf("the model %s does not exist here; there are: %s", wire.Quote(wire.Shorten(model)), strings.Join(names, ", ")),
	}
}
