package backend

import (
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// paidInstead counts the calls that a metered backend answered in a server's place.
type paidInstead struct {
	calls atomic.Int64
	cost  atomic.Int64 // picodollars
}

// AddDemand counts a call that would have been given to the server, and goes elsewhere
// because its model is not loaded.
func (b *Server) AddDemand() {
	if b.local.State().Reason == Unloaded {
		b.local.AddDemand(false)
	}
}

// ForModel returns how many calls wait for the server's model to be loaded, and not for a
// slot, and when the first of them arrived; zero = none waits.
func (b *Server) ForModel() (waiting int, since time.Time) { return b.queue.forModel() }

// CountPaidInstead counts a call that would have been given to the server, and was charged
// by a metered backend.
func (b *Server) CountPaidInstead(charged usd.Amount) {
	b.paidInstead.calls.Add(1)
	b.paidInstead.cost.Add(int64(charged))
}

// PaidInstead returns how many calls were counted so, and what they cost together.
func (b *Server) PaidInstead() (calls int64, cost usd.Amount) {
	return b.paidInstead.calls.Load(), usd.Amount(b.paidInstead.cost.Load())
}
