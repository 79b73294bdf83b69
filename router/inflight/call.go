package inflight

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// Phase is how far a call is.
type Phase string

// The phases. A call whose backend fails goes back to Routing.
//
//	Routing --> WaitingForModel <--> WaitingForSlot --> Sent --> Answering --> Continuing
const (
	Routing         Phase = "routing"           // a backend is being chosen
	WaitingForModel Phase = "waiting_for_model" // in the queue of a server that accepts no calls yet
	WaitingForSlot  Phase = "waiting_for_slot"  // in the queue of a server whose slots are busy
	Sent            Phase = "sent"              // the backend has it, and has not answered
	Answering       Phase = "answering"         // the client receives the answer
	Continuing      Phase = "continuing"        // the answer broke, and another backend continues it
)

// Info is what is known of a call when it begins.
type Info struct {
	Number  int64     // of its row in the ledger
	Began   time.Time // when it arrived
	Request string    // X-Request-Id; a client may use one twice
	Method  string
	Path    string
	Key     string // the name of the client's key; "" = none
	Route   string
	Model   string // as the client named it
	Stream  bool
	FromBox string // the box of the fleet that has sent it; "" = a client
}

// ID returns the call's id, which its row in the ledger has, too.
func (i Info) ID() ledger.CallID { return ledger.NewCallID(i.Began, i.Number) }

// Call is a call in flight. Its goroutine changes it, and any goroutine may read it.
type Call struct {
	Info
	Events atomic.Int64 // of the answer, with content, that were passed on: about one per token
	Bytes  atomic.Int64 // that were passed on

	mu       sync.Mutex
	state    state
	canceler Canceler // nil = the call is not in a Registry

	older, newer *Call // guarded by the Registry
}

// Canceler ends a call. CancelCall must not block.
type Canceler interface{ CancelCall() }

// state is what changes few times in the life of a call.
type state struct {
	phase        Phase
	backend      string
	backendModel string
	reason       models.Reason
	place        func() int // in the queue of its server; nil = it does not wait
	attemptBegan time.Time  // zero = it has ended
	firstAnswer  time.Duration
	cost         usd.Amount       // of the attempts that have ended
	unknownCost  bool             // an attempt may cost more than that
	attempts     []ledger.Attempt // that have ended
}

// Skip records that a backend was not asked.
func (c *Call) Skip(backend string, reason models.Reason, detail string) {
	c.change(func(s *state) {
		s.reason = reason
		s.attempts = append(s.attempts, ledger.Attempt{Backend: backend, Reason: string(reason), Skipped: true, Detail: detail})
	})
}

// Try records that an attempt at a backend begins. metered is whether the backend bills, and
// reason why the primary has not answered so far; "" = the attempt is at the primary.
func (c *Call) Try(backend, model string, metered bool, reason models.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	s.backend, s.backendModel, s.reason, s.unknownCost = backend, model, reason, s.unknownCost || metered
	s.attemptBegan, s.phase, s.place = time.Now(), Routing, nil
}

// Wait records that the call waits for its model, or for a slot. place returns its place in
// the queue, 1 = next; 0 = it has left it.
func (c *Call) Wait(forModel bool, place func() int) {
	c.change(func(s *state) {
		s.place, s.phase = place, WaitingForSlot
		if forModel {
			s.phase = WaitingForModel
		}
	})
}

// Send records that the call is sent to its backend.
func (c *Call) Send() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.phase, c.state.place = Sent, nil
}

// Fail records why the attempt has failed. status is 0 if the backend sent none, and cost is
// what the attempt cost; nil = unknown.
func (c *Call) Fail(reason models.Reason, status int, cost *usd.Amount, detail string) {
	c.change(func(s *state) {
		s.end(ledger.Attempt{Reason: string(reason), Status: status, Detail: detail}, cost)
		s.phase, s.place = Routing, nil
	})
}

// Answer records that the client receives the answer. reason is why the primary has not
// answered; "" = it has.
func (c *Call) Answer(reason models.Reason, firstAnswer time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.reason, c.state.firstAnswer, c.state.phase = reason, firstAnswer, Answering
}

// Continue records that the answer broke, and that the attempt that Try has recorded last
// continues it.
func (c *Call) Continue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.phase = Continuing
}

// End records the end of the last attempt, and returns all attempts. They are nil if there is
// nothing to say about them: the only one has answered, or there was none.
func (c *Call) End(status int, cost *usd.Amount, detail string) (attempts []ledger.Attempt) {
	c.change(func(s *state) {
		if !s.attemptBegan.IsZero() && (len(s.attempts) > 0 || detail != "") {
			s.end(ledger.Attempt{Status: status, Detail: detail}, cost)
		}
		attempts = s.attempts
	})
	return attempts
}

// end adds the present attempt to those that have ended.
func (s *state) end(a ledger.Attempt, cost *usd.Amount) {
	a.Backend, a.Model, a.MS, a.Cost = s.backend, s.backendModel, time.Since(s.attemptBegan).Milliseconds(), cost
	s.attempts = append(s.attempts, a)
	s.attemptBegan, s.unknownCost = time.Time{}, cost == nil
	if cost != nil {
		s.cost += *cost
	}
}

func (c *Call) change(change func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
}
