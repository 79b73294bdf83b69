package inflight

import (
	"slices"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// Snapshot is a call at one moment. Its attempts must not be changed.
type Snapshot struct {
	Info
	Phase        Phase
	Backend      string // "" = none has been tried
	BackendModel string // the model's name there
	Reason       models.Reason
	Place        int           // in the queue of its server, 1 = next; 0 = it does not wait
	Tokens       int64         // of the answer so far: its events with content
	Bytes        int64         // of the answer so far
	FirstAnswer  time.Duration // from the call's arrival; 0 = the client has received nothing
	Cost         *usd.Amount   // so far; nil = unknown, as it is while a paid backend answers
	Attempts     []ledger.Attempt
}

// Snapshot returns the call at this moment.
func (c *Call) Snapshot() Snapshot {
	c.mu.Lock()
	s := c.state
	c.mu.Unlock()
	now := Snapshot{
		Info: c.Info, Phase: s.phase, Backend: s.backend, BackendModel: s.backendModel, Reason: s.reason,
		Tokens: c.Events.Load(), Bytes: c.Bytes.Load(), FirstAnswer: s.firstAnswer, Attempts: slices.Clip(s.attempts),
	}
	if now.Phase == "" {
		now.Phase = Routing
	}
	if s.place != nil {
		now.Place = s.place()
	}
	if !s.unknownCost {
		now.Cost = &s.cost
	}
	return now
}

// cancel ends the call, unless it has been removed from its Registry.
func (c *Call) cancel() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceler == nil {
		return false
	}
	c.canceler.CancelCall()
	return true
}
