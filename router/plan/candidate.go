package plan

import (
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/usd"
)

// Candidate is a backend of a call's route: the primary or one of the fallbacks.
type Candidate struct {
	backend.Info

	Backend  backend.Backend
	Model    string // the model's name there
	Primary  bool   // it is the route's primary
	Returns  bool   // it takes no calls now and will by itself: a call without another candidate waits for it
	Estimate usd.Amount
	skipped  string // why the call is not given to it, for a person; "" = it may be
}

// Candidate returns one of the backends of a route, by the name that the route has for it.
func (s *Routing) candidate(target, tableModel, clientModel string) Candidate {
	b := s.Backends[target]
	return Candidate{Info: b.Info(), Backend: b, Model: modelAt(b, tableModel, clientModel)}
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
func (s *Routing) fallbacks(route models.Route, model string) []Candidate {
	var all []Candidate
	for _, f := range route.FallbackList() {
		if f.To == route.Primary {
			continue
		}
		c := s.candidate(f.To, f.Model, model)
		switch now := c.Backend.Availability(); {
		case now.MissingKey != "":
			c.skipped = "its fallback " + f.To + " has no key: " + now.MissingKey
		case !now.Usable():
			c.skipped, c.Returns = "its fallback "+c.Name+" "+now.Detail, now.Returning
		}
		all = append(all, c)
	}
	return all
}

// priced returns what accounting has to know of the call at this candidate.
func (c Candidate) priced() accounting.Attempt {
	return accounting.Attempt{Backend: c.Name, Model: c.Model, Metered: c.Metered, Estimate: c.Estimate}
}

// Kept returns the candidates that are not skipped.
func Kept(all []Candidate) []Candidate {
	return slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c.skipped != "" })
}

// firstKept returns the first candidate that is not skipped; nil = all are.
func firstKept(all []Candidate) *Candidate {
	for i := range all {
		if all[i].skipped == "" {
			return &all[i]
		}
	}
	return nil
}

// skip skips those candidates for which why returns a reason.
func (p *Plan) skip(why func(*Candidate) string) {
	for i := range p.Candidates {
		if c := &p.Candidates[i]; c.skipped == "" {
			c.skipped = why(c)
		}
	}
}

// NoFallback says why the fallbacks are skipped that are; "" = none is.
func (p *Plan) NoFallback() string {
	var why []string
	for _, c := range p.Candidates {
		if c.skipped != "" && !c.Primary && !slices.Contains(why, c.skipped) {
			why = append(why, c.skipped)
		}
	}
	if p.Stopped != "" {
		why = append(why, p.Stopped)
	}
	return strings.Join(why, "; ")
}
