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
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// step is one backend that a call may be given to.
type step struct {
	backend backend
	model   string // the model's name there
	first   bool   // it is the route's primary
	returns bool   // it takes no calls now and will by itself: a call without another backend waits for it

	accounting *accounting.Accounting
	estimate   usd.Amount // what the call may cost there; 0 = nothing, or nothing limits it
}

// attempt returns what accounting has to know of the call at this backend.
func (s step) attempt() accounting.Attempt {
	return accounting.Attempt{Backend: s.backend.name(), Model: s.model, Metered: s.backend.paid(), Estimate: s.estimate}
}

// plan says who may answer a call, in which order, and why not the primary.
type plan struct {
	route   models.Route
	steps   []step     // the one or two backends to try; none when refuse is set
	wait    *step      // the primary or else the fallback, if it is a server that returns
	waitFor string     // a call waits for it, and this is its state, as in "qwen is loading"
	reason  Reason     // why the primary is passed over; "" when it comes first
	detail  string     // the same for a person
	retry   int        // seconds until a call that is passed over is worth another try
	noSpare string     // why there is no fallback behind the primary, where one was wanted
	bound   bool       // it is that the fallback would ignore a field that the call depends on
	refuse  wire.Error // Status 0 when there are steps

	accounting   *accounting.Accounting
	spareTimeout time.Duration // to the fallback's first answer
	idleTimeout  time.Duration // of a stream that has begun

	local      *localBackend    // the route's server; nil = it has none
	meant      bool             // that is its primary
	spared     spared           // what an answer of that server saves
	overBudget *budget.Exceeded // why somebody who takes money is not asked; nil = nobody is kept from it
}

// spared is the model that would be paid for, were there no GPU: the zero value
// where nobody else has it.
type spared struct{ backend, model string }

// plan is the routing decision. It is the same for a call and for the
// question of `llmsup route`, takes no lock, and asks nobody that could hang.
func (s *routing) plan(model string) plan {
	return s.planFor(nil, model)
}

// planRoute is the plan of a call that goes by a route.
func (s *routing) planRoute(route models.Route, model string) plan {
	p := plan{route: route, accounting: s.accounting, spareTimeout: s.fallbackTimeout, idleTimeout: s.idleTimeout}
	primary := s.backends[route.Primary]
	now := primary.availability()
	first := step{accounting: s.accounting, backend: primary, model: s.modelAt(primary, route.PrimaryModel, model), first: true, returns: now.returning}

	var spare, returning *step // the fallback, and the same if it is a server that returns
	if fallback := s.backends[route.Fallback]; route.Fallback != "" && route.Fallback != route.Primary {
		there := fallback.availability()
		switch {
		case there.noKey != "":
			p.noSpare = fmt.Sprintf("its fallback %s has no key: %s", route.Fallback, there.noKey)
		case there.reason == "" || there.reason == Degraded && there.alive:
			spare = &step{accounting: s.accounting, backend: fallback, model: s.modelAt(fallback, route.FallbackModel, model)}
		default:
			p.noSpare = fmt.Sprintf("its fallback %s %s", fallback.name(), there.detail)
			if there.returning {
				returning = &step{accounting: s.accounting, backend: fallback, model: s.modelAt(fallback, route.FallbackModel, model), returns: true}
			}
		}
	}
	p.local, p.meant = primary.(*localBackend)
	if !p.meant {
		p.local = s.local(route.Fallback)
	}
	p.spared = s.sparedBy(route, model)
	var later *step // the fallback, if the route's fallback_on leaves out the present reason
	if route.Fallback != "" && now.noKey == "" && now.reason != "" && !mayFallBack(route, now.reason) {
		p.noSpare = fmt.Sprintf("the route's fallback_on has no %s", now.reason)
		spare, later, returning = nil, spare, nil
	}
	p.retry = now.retryAfter
	switch {
	case now.returning:
		p.wait = new(first)
	case returning != nil:
		p.wait = returning
		p.retry = returning.backend.availability().retryAfter
	}
	switch {
	case now.noKey != "" && spare == nil:
		p.refuse = wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeNoKey,
			Message: fmt.Sprintf("%s goes to %s, which has no key: %s", model, route.Primary, now.noKey),
		}
		if p.noSpare != "" {
			p.refuse.Message += "; " + p.noSpare
		}
	case now.noKey != "":
		p.detail = fmt.Sprintf("%s has no key: %s", route.Primary, now.noKey)
		p.reason, p.steps = Failed, []step{*spare}
	case now.reason == "" || now.reason == Degraded && now.alive && spare == nil:
		p.steps = []step{first}
		switch {
		case spare != nil:
			p.steps = append(p.steps, *spare)
		case returning != nil: // better than an error, if the primary fails
			p.steps = append(p.steps, *returning)
		}
	case spare != nil && now.alive && now.reason == Degraded: // which is better than nobody
		p.reason, p.detail, p.steps = now.reason, route.Primary+" "+now.detail, []step{*spare, first}
	case spare != nil:
		p.reason, p.detail, p.steps = now.reason, route.Primary+" "+now.detail, []step{*spare}
		if first.returns { // better than an error, if the fallback fails
			p.steps = append(p.steps, first)
		}
	case first.returns && later != nil: // the call moves if a reason comes that fallback_on has
		p.steps = []step{first, *later}
		p.waits()
	default:
		p.reason, p.detail = now.reason, route.Primary+" "+now.detail
		if !p.waits() {
			p.refuse = s.unavailable(p)
		}
	}
	return p
}

// waits makes a plan that has no other backend that of a call which waits for the
// server that returns. It returns false if the call does not wait.
func (p *plan) waits() bool {
	if p.wait == nil || len(p.steps) > 0 && !p.steps[0].returns {
		return false
	}
	if len(p.steps) == 0 {
		p.steps = []step{*p.wait}
	}
	p.refuse = wire.Error{}
	p.waitFor = p.wait.backend.name() + " " + p.wait.backend.availability().detail
	if p.wait.first {
		p.reason, p.detail = "", "" // the primary is not passed over
	}
	return true
}

// sparedBy returns what an answer of a route's server saves.
func (s *routing) sparedBy(route models.Route, model string) spared {
	for _, side := range [][2]string{{route.Fallback, route.FallbackModel}, {route.Primary, route.PrimaryModel}} {
		if b := s.backends[side[0]]; b != nil && b.paid() {
			return spared{b.name(), s.modelAt(b, side[1], model)}
		}
	}
	return spared{}
}

// redact takes the keys of all backends of the plan out of words of theirs.
func (p plan) redact(words string) string {
	for _, s := range p.steps {
		words = s.backend.redact(words)
	}
	return words
}

// mayFallBack says whether a route's calls go to its fallback for a reason.
func mayFallBack(route models.Route, reason Reason) bool {
	return route.FallbackOn == "" || route.FallbackOn.Has(string(reason))
}

// modelAt is the name under which a backend is asked: the table's, else a local
// server's own, else the client's.
func (s *routing) modelAt(b backend, table, client string) string {
	if table != "" {
		return table
	}
	if _, local := b.(*localBackend); local {
		return b.name()
	}
	return client
}

func (s *routing) unavailable(p plan) wire.Error {
	e := wire.Error{
		Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.reason),
		Message: p.detail, RetryAfter: max(p.retry, 1),
	}
	if p.noSpare != "" {
		e.Message += "; " + p.noSpare
	} else if p.route.Fallback == "" {
		e.Message += "; the route " + p.route.Name + " has no fallback"
	}
	return e
}

// unknownModel tells a caller which models there are for him.
func (s *routing) unknownModel(k *access.Key, model string) wire.Error {
	names := slices.DeleteFunc(s.table.Names(), func(name string) bool { return !k.Allows(name) })
	return wire.Error{
		Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeModelNotFound,
		Message: fmt.Sprintf("the model %s does not exist here; there are: %s", wire.Quote(wire.Shorten(model)), strings.Join(names, ", ")),
	}
}
