package plan

import (
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Load is the load of a local server.
type Load struct {
	Calls   int   // admitted calls
	Bound   int   // those of them that no other backend can continue
	Queued  int   // calls that wait for a slot
	Waiting int   // admitted calls that wait for the server; the others wait for their client to read
	Bytes   int64 // of answers so far, without pings: an engine that hangs sends those, too
	Total   int64 // calls that were admitted so far

	Service    time.Duration // how long a call holds its slots on average; 0 = unknown
	PromptRate float64       // prompt tokens per second that the server processes; 0 = unknown

	ForModel      int       // those of Queued that wait for the server to accept calls, and not for a slot
	ForModelSince time.Time // when the first of them arrived; zero = there is none
	PaidInstead   PaidInstead
}

// PaidInstead are the calls that a metered backend was paid for because a local server that
// would have answered them did not accept calls yet. Both figures only grow.
type PaidInstead struct {
	Calls   int64
	Charged usd.Amount // what they cost, as budgets count it
}

// Load returns the load of a local server. A server that a reload has removed may still
// have calls.
func (s *Routing) Load(server string) Load {
	b := s.Server(server)
	if b == nil {
		b = s.Removed[server]
	}
	if b == nil {
		return Load{}
	}
	_, queued, service := b.Queue()
	load := Load{Calls: int(b.Inflight()), Bound: int(b.Bound()), Queued: queued, Waiting: int(b.Waiting()), Bytes: b.Output(), Total: b.Total(), Service: service, PromptRate: b.PromptRate()}
	load.ForModel, load.ForModelSince = b.ForModel()
	load.PaidInstead.Calls, load.PaidInstead.Charged = b.PaidInstead()
	return load
}
