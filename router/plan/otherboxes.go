package plan

import (
	"math/rand/v2"
	"slices"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// onOtherBoxes returns a route's primary on the other boxes of the fleet. A box that accepts no
// calls now is skipped. Boxes where it is degraded come after all other candidates.
func (s *Routing) onOtherBoxes(primary Candidate, target string) (all, degraded []Candidate) {
	if s.Boxes == nil || !primary.Local {
		return nil, nil
	}
	for _, peer := range s.Boxes.Servers(target) {
		now := peer.Availability()
		c := primary
		c.Info, c.Backend, c.OtherBox, c.Returning = peer.Info(), peer, true, now.Returning
		if c.Model, c.LastResort = target, now.Reason == backend.Degraded; c.LastResort {
			degraded = append(degraded, c)
			continue
		}
		if now.Reason != "" {
			c.skipReason, c.unsupported = c.Name+" "+now.Detail, false
			if !now.NeedsOperator {
				c.retryAfter = now.RetryAfter
			}
		}
		all = append(all, c)
	}
	return all, degraded
}

// fallbackOnOtherBoxes returns a fallback that is a server which this box does not have, on the
// boxes that have it. Calls begin at a random one.
func (s *Routing) fallbackOnOtherBoxes(fallback Candidate, target string) (all []Candidate) {
	if !isAbsent(fallback) {
		return nil
	}
	peers := s.Boxes.Servers(target)
	for i, first := 0, rand.IntN(max(len(peers), 1)); i < len(peers); i++ {
		peer, c := peers[(first+i)%len(peers)], fallback
		c.Info, c.Backend, c.OtherBox, c.Model = peer.Info(), peer, true, target
		all = append(all, c.asFallback(peer.Availability()))
	}
	return all
}

// hasFallback reports whether one of the fallbacks gets the call if the primary is bypassed.
func (p *Plan) hasFallback(fallbacks []Candidate, reason backend.Reason) bool {
	return firstKept(fallbacks) != nil && FallsBackOn(p.Route, reason)
}

// isAbsent reports whether a candidate is a server that this box does not have.
func isAbsent(c Candidate) bool {
	_, absent := c.Backend.(boxes.Absent)
	return absent
}

// OnlyThisBox removes the other boxes from a plan.
func (p *Plan) OnlyThisBox() {
	p.Candidates = slices.DeleteFunc(p.Candidates, func(c Candidate) bool { return c.OtherBox })
	if p.waitCandidate != nil && p.waitCandidate.OtherBox {
		p.waitCandidate = nil
	}
}

// OrderBoxes puts the boxes that can answer a call in the order in which they are tried. They
// come first in the plan.
func (s *Routing) OrderBoxes(p *Plan, r *request.Request) {
	n := 0
	for n < len(p.Candidates) && p.Candidates[n].Primary && p.Candidates[n].skipReason == "" && !p.Candidates[n].Returning && !p.Candidates[n].LastResort {
		n++
	}
	others := p.Candidates[:n]
	if n < 2 {
		return
	}
	known := make([]pick.Box, n)
	for i, c := range others {
		known[i] = s.boxOf(c.Backend)
	}
	call := pick.CallOf(r)
	call.Model = p.Route.Primary
	order := pick.Order(known, call, rand.IntN)
	ordered := make([]Candidate, 0, len(p.Candidates))
	for at, limit := range pick.Patience(known, call, order) {
		c := others[order[at]]
		c.MaxWait = limit
		ordered = append(ordered, c)
	}
	p.Candidates = append(ordered, p.Candidates[n:]...)
}

// boxOf returns what package pick has to know of the server of a candidate.
func (s *Routing) boxOf(b backend.Backend) pick.Box {
	switch b := b.(type) {
	case *backend.Server:
		taken, waiting, service := b.Queue()
		return pick.Box{Name: s.Boxes.Name(), Own: true, Slots: b.Slots(), Busy: taken, Queued: waiting, Service: service, PromptRate: b.PromptRate()}
	case *boxes.Peer:
		now, sent := b.Now()
		return pick.Box{
			Name: b.Box().Name, Slots: now.Slots, Busy: max(now.Slots-now.Free, 0) + sent, Queued: now.Queued, Service: now.Service, PromptRate: now.PromptRate,
		}
	}
	return pick.Box{}
}
