package plan

import (
	"slices"

	"github.com/llmsup/llmsup/router/backend"
)

// Attempted is what MayMoveOn needs to know of an attempt that failed.
type Attempted struct {
	Primary    bool // it was made at the route's primary
	Local      bool // at a supervised server
	Metered    bool // at a backend that bills answers
	Phase      backend.Phase
	Reason     backend.Reason
	OverBudget bool // it was not made: a budget did not allow it
	Invalid    bool // the backend rejected the request as invalid
	LocalField bool // it rejected a field that only llama-server knows, and upstreams ignore
}

// Obstacle is why a call may not move to a candidate.
type Obstacle int

// The obstacles.
const (
	NoObstacle      Obstacle = iota
	ClientGone               // the client closed the connection
	OutsideFallback          // the route's fallback_on does not list the reason
	LocalField               // the candidate would ignore a field that the call depends on
	InvalidRequest           // another backend would reject the request, too
	PaidTwice                // the same answer might be paid for a second time
)

func (o Obstacle) String() string {
	return [...]string{"none", "client gone", "fallback_on", "local field", "invalid request", "paid twice"}[o]
}

// MayMoveOn decides whether a call whose attempts have failed may be given to the next
// candidate. fallsBackOn reports whether the route's fallback_on lists a reason: it limits moves
// from the primary to a fallback, and not those from box to box.
//
// This is where a second paid attempt is ruled out: once a metered backend may have
// generated something, no metered backend receives the call again.
func MayMoveOn(past []Attempted, next Candidate, fallsBackOn func(backend.Reason) bool, gone bool) Obstacle {
	last := past[len(past)-1]
	switch {
	case gone:
		return ClientGone
	case last.Primary && !next.Primary && !last.OverBudget && !fallsBackOn(last.Reason):
		return OutsideFallback
	case last.Local && last.LocalField:
		return LocalField
	case last.Invalid && (next.Primary || !last.Primary): // each box would reject it, and the primary, too
		return InvalidRequest
	case next.Metered && slices.ContainsFunc(past, Attempted.MayHaveBilled):
		return PaidTwice
	}
	return NoObstacle
}

// MayHaveBilled reports whether the attempt may have cost money.
func (a Attempted) MayHaveBilled() bool { return a.Metered && a.Phase.MayHaveGenerated() }
