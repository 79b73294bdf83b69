package plan

import (
	"slices"

	"github.com/llmsup/llmsup/router/request"
)

// ReturnedBoxes returns the boxes that accept a call now and are not among its candidates: when it
// came, they were drained or not in the fleet. This box may be one of them.
func (p *Plan) ReturnedBoxes(r *request.Request, candidates []Candidate) []Candidate {
	s := p.routing
	if !p.MayReturn() {
		return nil
	}
	own := s.candidate(p.Route.Primary, p.Route.PrimaryModel, "")
	own.Primary, own.Edits = true, p.Route.Edits
	all, _ := s.onOtherBoxes(own, p.Route.Primary)
	if now := s.availability(own.Backend, p.path); !isAbsent(own) && now.Reason == "" {
		all = append(all, own)
	}
	now := Plan{Route: p.Route, Candidates: slices.DeleteFunc(Kept(all), func(c Candidate) bool {
		return slices.ContainsFunc(candidates, func(known Candidate) bool { return known.Name == c.Name })
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
