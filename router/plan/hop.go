package plan

import (
	"net/http"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

// PlanHop returns the plan of a call that another box of the fleet has sent: one server of this
// box answers it, or the other box moves it on. It never goes to another box.
func (s *Routing) PlanHop(hop *boxes.Hop, path string) Plan {
	route := models.Route{Name: hop.Server, Primary: hop.Server, Timeout: hop.Timeout}
	p := Plan{Route: route, path: path, Hop: hop, Accounting: s.Accounting, Timeouts: s.timeouts, Server: s.Server(hop.Server), LocalPrimary: true}
	if p.Server == nil {
		p.Reason, p.Detail = backend.Failed, hop.Server+" is not on this box"
		p.Rejection = wire.Error{Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason), Message: p.Detail, RetryAfter: wire.RetrySoon}
		return p
	}
	now := s.availability(p.Server, path)
	c := s.candidate(hop.Server, "", "")
	c.Primary, c.Returning, c.unsupported = true, now.Returning, now.Reason == backend.Unsupported
	c.MaxWait, c.ModelWait, p.retryAfter = hop.MaxWait, hop.ModelWait, now.RetryAfter
	if !now.Usable() && (hop.Moves && !(hop.ModelWait > 0 && now.Reason.EndsWithLoad()) || !now.Returning) {
		p.bypassPrimary(now)
		p.Rejection = p.unavailableError()
		return p
	}
	p.Candidates = []Candidate{c}
	return p
}
