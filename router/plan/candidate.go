package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
)

// Candidate is a backend of a call's route: the primary or one of the fallbacks.
type Candidate struct {
	backend.Info

	Backend     backend.Backend
	Model       string        // the model's name there
	Primary     bool          // it is the route's primary, on this box or on another one
	OtherBox    bool          // it is on another box of the fleet
	LastResort  bool          // it is degraded, as are all candidates after it that are not skipped
	Returning   bool          // it accepts no calls now, but will without an operator: a call without another candidate waits for it
	unsupported bool          // it can never answer the call: its engine lacks the path, or its model the ability
	Load        time.Duration // of Plan.ToLoad: until its model is loaded
	ModelWait   time.Duration // how long the call waits there for its model, before it moves to another box; 0 = it moves at once
	MaxWait     pick.MaxWait  // as that of a backend.Attempt; limited = it is asked whether the call can begin, before the call waits anywhere
	Rest        time.Duration // expected, until the first token: from the call's slot, or from now at Plan.ToLoad
	Wait        time.Duration // expected, until the first token: of a box at which the call waits for a slot or the model; 0 = unknown
	Edits       *models.Edits // of the call's parameters; nil = none
	Estimate    usd.Amount
	edited      *request.Request // the call with the edits; nil = it has none
	skipReason  string           // why the call is not given to it, in plain text; "" = it is kept
	retryAfter  int              // seconds after which a skipped fallback may accept calls; 0 = not before an operator acts
}

// candidate returns one of the backends of a route, by its name in the route.
func (s *Routing) candidate(target, tableModel, clientModel string) Candidate {
	b := s.Backend(target)
	return Candidate{Info: b.Info(), Backend: b, Model: ModelAt(b, tableModel, clientModel)}
}

// RequestOf returns the call as this candidate gets it.
func (c *Candidate) RequestOf(r *request.Request) *request.Request { return cmp.Or(c.edited, r) }

// ModelAt returns the name of a model at a backend: the table's, else a local server's
// own, else the client's.
func ModelAt(b backend.Backend, table, client string) string {
	if table != "" {
		return table
	}
	if info := b.Info(); info.Local {
		return info.Name
	}
	return client
}

// fallbacks returns the fallbacks of a route in their order. Those that cannot be used now
// are skipped.
func (s *Routing) fallbacks(route models.Route, model, path string) []Candidate {
	var all []Candidate
	for _, f := range route.FallbackList() {
		if f.To == route.Primary {
			continue
		}
		c := s.candidate(f.To, f.Model, model)
		c.Edits = f.Edits
		if on := s.fallbackOnOtherBoxes(c, f.To); len(on) > 0 {
			all = append(all, on...)
			continue
		}
		all = append(all, c.asFallback(s.availability(c.Backend, path)))
	}
	return all
}

// asFallback returns a fallback, skipped if it cannot be used now.
func (c Candidate) asFallback(now backend.Availability) Candidate {
	c.unsupported = now.Reason == backend.Unsupported
	switch {
	case now.MissingKey != "":
		c.skipReason = "fallback " + c.Name + " has no API key: " + now.MissingKey
	case !now.Usable():
		c.skipReason, c.Returning = "fallback "+c.Name+" "+now.Detail, now.Returning
		if !now.NeedsOperator {
			c.retryAfter = now.RetryAfter
		}
	}
	return c
}

// firstServer returns the first server of this box in a route; nil = there is none.
func firstServer(primary Candidate, fallbacks []Candidate) *backend.Server {
	if server, ok := primary.Backend.(*backend.Server); ok {
		return server
	}
	for _, c := range fallbacks {
		if server, ok := c.Backend.(*backend.Server); ok {
			return server
		}
	}
	return nil
}

// returningFirst returns the servers that come before the first usable fallback of a route
// and will accept calls again. The primary is not usable.
func returningFirst(primary Candidate, fallbacks []Candidate) (servers []*backend.Server) {
	for _, c := range append([]Candidate{primary}, fallbacks...) {
		if !c.Primary && c.skipReason == "" {
			break
		}
		if server, ok := c.Backend.(*backend.Server); ok && c.Returning {
			servers = append(servers, server)
		}
	}
	return servers
}

// accountingAttempt returns the call at this candidate as accounting sees it.
func (c Candidate) accountingAttempt() accounting.Attempt {
	return accounting.Attempt{Backend: c.Name, Model: c.Model, Metered: c.Metered, Estimate: c.Estimate}
}

// Kept returns the candidates that are not skipped.
func Kept(all []Candidate) []Candidate {
	return slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c.skipReason != "" })
}

// firstKept returns the first candidate that is not skipped; nil = all are.
func firstKept(all []Candidate) *Candidate {
	for i := range all {
		if all[i].skipReason == "" {
			return &all[i]
		}
	}
	return nil
}

// skip skips those candidates for which why returns a reason.
func (p *Plan) skip(why func(*Candidate) string) {
	for i := range p.Candidates {
		if c := &p.Candidates[i]; c.skipReason == "" {
			c.skipReason = why(c)
		}
	}
}

// NoFallback returns why fallbacks are skipped; "" = none is skipped.
func (p *Plan) NoFallback() string {
	var why []string
	for _, c := range p.Candidates {
		if c.skipReason != "" && (!c.Primary || c.OtherBox) && !slices.Contains(why, c.skipReason) {
			why = append(why, c.skipReason)
		}
	}
	if p.FallbackBlocked != "" {
		why = append(why, p.FallbackBlocked)
	}
	return strings.Join(why, "; ")
}
