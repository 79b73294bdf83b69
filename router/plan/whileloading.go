package plan

import (
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// Waits reports whether the route's while_loading makes a call that has waited for some time
// wait on for a primary in the state of this reason.
func Waits(route models.Route, reason backend.Reason, waited time.Duration) bool {
	switch reason {
	case backend.Unloaded, backend.Starting, backend.Loading, backend.Restarting:
		return route.WhileLoading.Waits(waited)
	default:
		return false
	}
}

// WaitLimit returns for how long a call of this plan waits for its first candidate, if that
// accepts no calls yet.
func (p *Plan) WaitLimit() time.Duration {
	if limit := time.Duration(p.Route.WhileLoading); limit > 0 && p.FallbackBlocked == "" && len(Kept(p.Candidates)) > 1 {
		return limit
	}
	return p.Route.Timeout
}
