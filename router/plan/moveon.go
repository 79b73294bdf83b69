package plan

import (
	"slices"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// Attempted is what MayMoveOn needs to know of an attempt that failed.
type Attempted struct {
	Primary     bool // it was made at the route's primary
	Local       bool // at a supervised server
	Metered     bool // at a backend that bills answers
	Phase       backend.Phase
	Reason      backend.Reason
	OverBudget  bool // it was not made: a budget did not allow it
	Invalid     bool // the backend rejected the request as invalid
	LocalField  bool // it rejected a field that only llama-server knows, and upstreams ignore
	OverContext int  // tokens of the server's context, which the prompt exceeds; 0 = it does not, or they are unknown
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
	ContextTooSmall          // the prompt exceeds the context of another box, and the candidate's is not larger
	PaidTwice                // the same answer might be paid for a second time
)

func (o Obstacle) String() string {
	return [...]string{"none", "client gone", "fallback_on", "local field", "invalid request", "context too small", "paid twice"}[o]
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
	case next.Primary && next.hasSmallContext(past):
		return ContextTooSmall
	case next.Metered && slices.ContainsFunc(past, Attempted.MayHaveBilled):
		return PaidTwice
	}
	return NoObstacle
}

// MayHaveBilled reports whether the attempt may have cost money.
func (a Attempted) MayHaveBilled() bool { return a.Metered && a.Phase.MayHaveGenerated() }

// hasSmallContext reports whether the prompt exceeds the context of the route's primary on a box, and
// the one that the candidate has announced is not larger.
func (c *Candidate) hasSmallContext(past []Attempted) bool {
	return slices.ContainsFunc(past, func(a Attempted) bool {
		if !a.Primary || a.OverContext == 0 {
			return false
		}
		context := c.Context()
		return context > 0 && context <= a.OverContext
	})
}

// Context returns how many tokens one call of a server may have, prompt and answer together, as GET
// /v1/models lists it; 0 = unknown.
func (c *Candidate) Context() int {
	server, ok := c.Backend.(interface {
		Describe() (status string, d *models.Description)
	})
	if !ok {
		return 0
	}
	if _, d := server.Describe(); d != nil {
		return d.CtxSize
	}
	return 0
}
