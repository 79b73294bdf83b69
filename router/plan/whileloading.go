package plan

import (
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// WaitsFor reports whether the route's while_loading makes a call wait for a primary in the state of
// this reason.
func WaitsFor(route models.Route, reason backend.Reason) bool {
	return route.WhileLoading != 0 && reason.EndsWithLoad()
}

// WaitsUntil returns when a call that began at a time stops waiting for its primary under the
// route's while_loading; zero = it does not wait.
func WaitsUntil(route models.Route, began time.Time) time.Time {
	switch route.WhileLoading {
	case 0:
		return time.Time{}
	case models.WaitForTimeout:
		return began.Add(2 * route.Timeout) // the route's timeout ends the wait before that
	}
	return began.Add(time.Duration(route.WhileLoading))
}

// WaitLimit returns for how long a call of this plan waits for its first candidate, if that
// accepts no calls yet.
func (p *Plan) WaitLimit() time.Duration {
	if first := firstKept(p.Candidates); first != nil && first.ModelWait > 0 {
		return first.ModelWait.Round(time.Second)
	}
	if limit := time.Duration(p.Route.WhileLoading); limit > 0 && p.FallbackBlocked == "" && len(Kept(p.Candidates)) > 1 {
		return limit
	}
	return p.Route.Timeout
}
