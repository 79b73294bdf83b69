package plan

import (
	"slices"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// ReturnedBoxes returns the boxes that accept a call now and are not among its candidates: when it
// came, they were drained or not in the fleet, or the fleet has more boxes than a call asks. This box
// may be one of them. A call that has failed at as many boxes as a call asks gets no more: it may be
// what breaks them. A box that could not be reached is none of these. A box that was restarted has
// another Backend, and is not the candidate of its name.
func (p *Plan) ReturnedBoxes(r *request.Request, candidates []Candidate, past []Attempted) []Candidate {
	s := p.routing
	if !p.MayReturn() {
		return nil
	}
	reached := 0
	for _, a := range past {
		if a.Primary && a.Reason != backend.Connect {
			reached++
		}
	}
	if reached >= pick.MaxAsked {
		return nil
	}
	own := s.candidate(p.Route.Primary, p.Route.PrimaryModel, "")
	own.Primary, own.Edits = true, p.Route.Edits
	all, _ := s.onOtherBoxes(own, p.Route.Primary)
	if now := s.availability(own.Backend, p.path); !isAbsent(own) && now.Reason == "" {
		all = append(all, own)
	}
	now := Plan{Route: p.Route, Candidates: slices.DeleteFunc(Kept(all), func(c Candidate) bool {
		return slices.ContainsFunc(candidates, func(known Candidate) bool { return known.Backend == c.Backend })
	})}
	s.OrderBoxes(&now, r)
	now.EditRequest(r)
	return now.Candidates
}

// MayReturn reports whether other boxes have the route's primary, or had it when they were last in
// the fleet.
func (p *Plan) MayReturn() bool {
	return p.routing != nil && p.routing.Boxes != nil && p.LocalPrimary
}
