package plan

import (
	"slices"

	"github.com/llmsup/llmsup/router/backend"
)

// Attempted is an attempt that failed, as far as it matters for what may be tried next.
type Attempted struct {
	Primary    bool // it was made at the route's primary
	Local      bool // at a supervised server
	Metered    bool // at a backend that bills what it answers
	Phase      backend.Phase
	Reason     backend.Reason
	OverBudget bool // it was not made: a budget was in the way
	Invalid    bool // the backend found the request itself to be wrong
	LocalField bool // it rejected a field that only llama-server knows, and upstreams ignore
}

// obstacle is why a call may not move on to a candidate.
type obstacle int

// What obstacle may be.
const (
	NoObstacle      obstacle = iota
	ClientGone               // the client closed the connection
	OutsideFallback          // the route's fallback_on does not have the reason
	LocalField               // the candidate would ignore what the call depends on
	InvalidRequest           // another backend would reject the request, too
	PaidTwice                // the same answer might be paid for a second time
)

func (o obstacle) String() string {
	return [...]string{"none", "client gone", "fallback_on", "local field", "invalid request", "paid twice"}[o]
}

// MayMoveOn decides whether a call whose attempts have failed may be given to the next
// candidate. FallsBackOn is the route's fallback_on.
//
// This is where a second paid attempt is ruled out: once a metered backend may have
// generated something, no metered backend gets the call again.
func MayMoveOn(past []Attempted, next backend.Info, fallsBackOn func(backend.Reason) bool, gone bool) obstacle {
	last := past[len(past)-1]
	switch {
	case gone:
		return ClientGone
	case last.Primary && !last.OverBudget && !fallsBackOn(last.Reason):
		return OutsideFallback
	case last.Local && last.LocalField:
		return LocalField
	case !last.Primary && last.Invalid: // it is not worth waiting for the primary
		return InvalidRequest
	case next.Metered && slices.ContainsFunc(past, Attempted.MayHaveBilled):
		return PaidTwice
	}
	return NoObstacle
}

func (a Attempted) MayHaveBilled() bool { return a.Metered && a.Phase.MayHaveGenerated() }
