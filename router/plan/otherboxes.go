package plan

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// boxTimeout is the timeout of a route that no configuration has, that of other local routes.
const boxTimeout = time.Minute

// routeToBoxes returns the route of local/SERVER for a server that only other boxes of the fleet
// have. A server with the name of an upstream of this box has none: its calls would be paid for.
func (s *Routing) routeToBoxes(model string) (route models.Route, ok bool) {
	server, local := strings.CutPrefix(model, models.LocalPrefix)
	if !local || s.Backends[server] != nil && !isAbsent(Candidate{Backend: s.Backends[server]}) || !slices.Contains(s.Boxes.ServerNames(), server) {
		return models.Route{}, false
	}
	return models.Route{Name: model, Primary: server, Timeout: boxTimeout}, true
}

// ByName yields the names of all models with their routes, as models.Table.ByName does, and those of
// the servers that only other boxes have.
func (s *Routing) ByName() iter.Seq2[string, models.Route] {
	return func(yield func(string, models.Route) bool) {
		for name, route := range s.Table.ByName() {
			if !yield(name, route) {
				return
			}
		}
		for _, server := range s.Boxes.ServerNames() {
			name := models.LocalPrefix + server
			if _, own := s.Table.Lookup(name); own {
				continue
			}
			if route, ok := s.routeToBoxes(name); ok && !yield(name, route) {
				return
			}
		}
	}
}

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

// HaveFallback reports whether a route's fallback is among some candidates.
func HaveFallback(candidates []Candidate) bool {
	return slices.ContainsFunc(candidates, func(c Candidate) bool { return !c.Primary })
}

// FallbacksFirst puts a route's fallbacks before the boxes that have its primary.
func FallbacksFirst(candidates []Candidate) {
	slices.SortStableFunc(candidates, func(a, b Candidate) int {
		switch {
		case a.Primary == b.Primary:
			return 0
		case b.Primary:
			return -1
		}
		return 1
	})
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
	p.routing = nil
	p.Candidates = slices.DeleteFunc(p.Candidates, func(c Candidate) bool { return c.OtherBox })
	if p.waitCandidate != nil && p.waitCandidate.OtherBox {
		p.waitCandidate = nil
	}
}

// OrderBoxes puts the boxes that can answer a call in the order in which they are asked. They
// come first in the plan.
func (s *Routing) OrderBoxes(p *Plan, r *request.Request) {
	if s.Boxes == nil || len(s.Boxes.Servers(p.Route.Primary)) == 0 {
		return
	}
	ready, unloaded := boxList{candidates: make([]Candidate, 0, len(p.Candidates)), known: make([]pick.Box, 0, len(p.Candidates))}, boxList{}
	var others []Candidate
	for _, c := range p.Candidates {
		now := s.boxOf(c)
		if c.Primary && !c.LastResort && c.skipReason == "" && !c.Returning {
			ready.add(c, now)
			continue
		}
		if c.Primary && !c.LastResort && c.Returning && now.Load > 0 {
			unloaded.add(c, now)
		}
		others = append(others, c)
	}
	if len(ready.candidates) == 0 || len(ready.candidates)+len(unloaded.candidates) < 2 {
		return
	}
	call := pick.CallOf(r)
	call.Model = p.Route.Primary
	p.Candidates = make([]Candidate, 0, len(p.Candidates))
	for _, choice := range pick.Order(ready.known, call, rand.IntN) {
		c := ready.candidates[choice.Box]
		c.MaxWait, c.Rest = choice.MaxWait, choice.Rest
		p.Candidates = append(p.Candidates, c)
	}
	p.Candidates = append(p.Candidates, others...)
	if i, firstToken := pick.ToLoad(unloaded.known, call); i >= 0 {
		c := unloaded.candidates[i]
		c.skipReason, c.retryAfter, c.Rest, c.Wait = "", 0, firstToken, firstToken.Round(waitUnit)
		c.Load = unloaded.known[i].Load
		c.ModelWait = 2 * c.Load // the time is an estimate
		p.ToLoad = &c
	}
}

// boxList is some boxes that have a call's model.
type boxList struct {
	candidates []Candidate
	known      []pick.Box
}

func (l *boxList) add(c Candidate, now pick.Box) {
	l.candidates, l.known = append(l.candidates, c), append(l.known, now)
}

// boxOf returns what package pick has to know of the server of a candidate.
func (s *Routing) boxOf(c Candidate) pick.Box {
	switch b := c.Backend.(type) {
	case *backend.Server:
		own := pick.Box{Name: s.Boxes.Name(), Own: true, Slots: b.Slots(), PromptRate: b.PromptRate()}
		own.Busy, own.Queued, own.Service = b.Queue()
		if c.Returning {
			now := b.Availability()
			own.Load, own.Loading = now.LoadsIn, now.Reason != backend.Unloaded
		}
		return own
	case *boxes.Peer:
		now, sent := b.Now()
		there := pick.Box{
			Name: b.Box().Name, Slots: now.Slots, Busy: max(now.Slots-now.Free, 0) + sent, Queued: now.Queued, Service: now.Service, PromptRate: now.PromptRate,
		}
		if now.LoadsIn > 0 { // its slots are free then
			there.Load, there.Loading, there.Busy = now.LoadsIn, now.Status != string(backend.Unloaded), sent
		}
		return there
	}
	return pick.Box{}
}
