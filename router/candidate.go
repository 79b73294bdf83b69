package router

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/usd"
)

// candidate is a backend of a call's route: the primary or one of the fallbacks.
type candidate struct {
	backend.Info

	backend  backend.Backend
	model    string // the model's name there
	primary  bool   // it is the route's primary
	returns  bool   // it takes no calls now and will by itself: a call without another candidate waits for it
	estimate usd.Amount
	skipped  string // why the call is not given to it, for a person; "" = it may be
}

// candidate returns one of the backends of a route, by the name that the route has for it.
func (s *routing) candidate(target, tableModel, clientModel string) candidate {
	b := s.backends[target]
	return candidate{Info: b.Info(), backend: b, model: modelAt(b, tableModel, clientModel)}
}

// modelAt is the name under which a backend is asked for a model: the table's, else a
// local server's own, else the client's.
func modelAt(b backend.Backend, table, client string) string {
	if table != "" {
		return table
	}
	if info := b.Info(); info.Local {
		return info.Name
	}
	return client
}

// fallbacks returns the fallbacks of a route in their order. Those that can't be asked
// now are skipped.
func (s *routing) fallbacks(route models.Route, model string) []candidate {
	var all []candidate
	for _, f := range route.FallbackList() {
		if f.To == route.Primary {
			continue
		}
		c := s.candidate(f.To, f.Model, model)
		switch now := c.backend.Availability(); {
		case now.MissingKey != "":
			c.skipped = "its fallback " + f.To + " has no key: " + now.MissingKey
		case !now.Usable():
			c.skipped, c.returns = "its fallback "+c.Name+" "+now.Detail, now.Returning
		}
		all = append(all, c)
	}
	return all
}

// priced returns what accounting has to know of the call at this candidate.
func (c candidate) priced() accounting.Attempt {
	return accounting.Attempt{Backend: c.Name, Model: c.model, Metered: c.Metered, Estimate: c.estimate}
}

// kept returns the candidates that are not skipped.
func kept(all []candidate) []candidate {
	return slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.skipped != "" })
}

// skip skips those candidates for which why returns a reason.
func (p *plan) skip(why func(*candidate) string) {
	for i := range p.candidates {
		if c := &p.candidates[i]; c.skipped == "" {
			c.skipped = why(c)
		}
	}
}

// noFallback says why the fallbacks are skipped that are; "" = none is.
func (p *plan) noFallback() string {
	var why []string
	for _, c := range p.candidates {
		if c.skipped != "" && !c.primary && !slices.Contains(why, c.skipped) {
			why = append(why, c.skipped)
		}
	}
	if p.stopped != "" {
		why = append(why, p.stopped)
	}
	return strings.Join(why, "; ")
}
