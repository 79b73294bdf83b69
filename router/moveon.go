package router

import (
	"slices"

	"github.com/llmsup/llmsup/router/backend"
)

// attempted is an attempt that failed, as far as it matters for what may be tried next.
type attempted struct {
	primary    bool // it was made at the route's primary
	local      bool // at a supervised server
	metered    bool // at a backend that bills what it answers
	phase      backend.Phase
	reason     backend.Reason
	overBudget bool // it was not made: a budget was in the way
	invalid    bool // the backend found the request itself to be wrong
	localField bool // it rejected a field that only llama-server knows, and upstreams ignore
}

// obstacle is why a call may not move on to a candidate.
type obstacle int

// What obstacle may be.
const (
	noObstacle      obstacle = iota
	clientGone               // the client closed the connection
	outsideFallback          // the route's fallback_on does not have the reason
	localField               // the candidate would ignore what the call depends on
	invalidRequest           // another backend would reject the request, too
	paidTwice                // the same answer might be paid for a second time
)

func (o obstacle) String() string {
	return [...]string{"none", "client gone", "fallback_on", "local field", "invalid request", "paid twice"}[o]
}

// mayMoveOn decides whether a call whose attempts have failed may be given to the next
// candidate. fallsBackOn is the route's fallback_on.
//
// This is where a second paid attempt is ruled out: once a metered backend may have
// generated something, no metered backend gets the call again.
func mayMoveOn(past []attempted, next backend.Info, fallsBackOn func(backend.Reason) bool, gone bool) obstacle {
	last := past[len(past)-1]
	switch {
	case gone:
		return clientGone
	case last.primary && !last.overBudget && !fallsBackOn(last.reason):
		return outsideFallback
	case last.local && last.localField:
		return localField
	case !last.primary && last.invalid: // it is not worth waiting for the primary
		return invalidRequest
	case next.Metered && slices.ContainsFunc(past, attempted.mayHaveBilled):
		return paidTwice
	}
	return noObstacle
}

func (a attempted) mayHaveBilled() bool { return a.metered && a.phase.MayHaveGenerated() }
