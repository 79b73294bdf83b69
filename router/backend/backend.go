package backend

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// Backend is a server or an upstream that can answer calls.
type Backend interface {
	Info() Info
	// Availability returns whether the backend accepts calls now. It never blocks.
	Availability() Availability
	// Admit waits until the backend accepts the call, or returns why it does not.
	Admit(ctx context.Context, a *Attempt) (*Lease, *Failure)
	// Send sends an admitted call and returns when the answer's headers have arrived.
	// The body can be read until ctx is cancelled.
	Send(ctx context.Context, a *Attempt) (*http.Response, error)
	// Redact removes the backend's key from a text.
	Redact(text string) string
}

// Info holds the properties of a backend that do not change.
type Info struct {
	Name    string
	Local   bool // it is a supervised llama-server
	Metered bool // it bills what it answers
	// PartialResponses says that its answers at /v1/responses lack what the schema requires.
	PartialResponses bool
}

// Availability is whether a backend accepts calls at one moment.
type Availability struct {
	Reason     Reason        // "" = it accepts calls
	Detail     string        // the reason in plain text
	Alive      bool          // it would answer in spite of Reason
	Hung       bool          // its process hung, and was ended
	MissingKey string        // what to set, for an upstream without its key
	Returning  bool          // it will accept calls again without an operator, and calls may wait for it
	OnDemand   bool          // a call has its model loaded
	RetryAfter int           // seconds after which the client should retry
	LoadsIn    time.Duration // as that of a LocalState

	NeedsOperator bool // only an operator can change it

	Model *models.Description // what is known of a local server's model; nil = nothing
}

// Usable reports whether a call may be given to the backend now. A degraded server is
// usable.
func (a Availability) Usable() bool {
	return a.MissingKey == "" && (a.Reason == "" || a.Reason == Degraded && a.Alive)
}

// Attempt is one call at one backend. Send records how far the request got.
type Attempt struct {
	Request     *request.Request
	Model       string      // the model's name at the backend
	Alternative Alternative // where the call may go instead
	Timeout     time.Duration
	MaxWait     pick.MaxWait // of a call that may move on, for a slot; without a limit: Timeout
	Deadline    time.Time    // for the first answer: Timeout from the attempt's start
	KeepAlive   KeepAlive
	Progress    Progress // nil = it is not reported
	Unmodified  bool     // the body is sent as the client wrote it

	Lease *Lease // what Admit returned
	Wait  Wait   // in the queue of a server

	sentAt       time.Time   // when the last send began
	connected    atomic.Bool // the request has a connection
	wroteHeaders atomic.Bool // set by the transport's goroutine, which can outlive a cancelled call
}

// Wait is how a call waited in the queue of a server, or was rejected because it was full.
type Wait struct {
	Place    int           // when the call began to wait or was rejected, 1 = next; 0 = it did neither
	Time     time.Duration // until it had its slots or moved on
	ForModel time.Duration // the part of it in which the server accepted no calls, as while it loads its model
}

// Progress receives how far a call is. Its methods must not block.
type Progress interface {
	// Wait reports that the call waits in the queue of a server: for its model, or for a slot.
	// place returns its place, 1 = next; 0 = it has left the queue.
	Wait(forModel bool, place func() int)
	// Send reports that the backend has admitted the call, which is sent now.
	Send()
}

// KeepAlive notifies the client of a call that the call still waits for its model. The zero value
// never does.
type KeepAlive struct {
	After  time.Duration   // of waiting, until the client is notified first; then it is notified every KeepAliveInterval
	Notify func(queue int) // queue is the call's place in the queue when it began to wait
}

// KeepAliveInterval is shorter than the time after which proxies close an idle connection.
const KeepAliveInterval = 15 * time.Second

// Alternative is the set of reasons for which a call may move to the next candidate of
// its plan. The zero value means that there is no next candidate.
type Alternative struct {
	Exists bool
	On     func(Reason) bool // the route's fallback_on

	ModelUntil time.Time // until then the call waits for a model that is not loaded; zero = it does not wait
}

// Allows reports whether the call may move for a reason now.
func (a Alternative) Allows(reason Reason) bool {
	return a.Exists && a.On(reason) && !(reason.EndsWithLoad() && time.Now().Before(a.ModelUntil))
}

// Load counts the calls and the output of a backend.
type Load struct {
	inflight atomic.Int64 // admitted calls; a call that waits for a slot is not admitted yet
	waiting  atomic.Int64 // admitted calls that wait for the backend, and not for their client to read
	output   atomic.Int64 // bytes of answers so far, without pings and other comments
	total    atomic.Int64 // calls that were admitted so far
	bound    atomic.Int64 // admitted calls that no other backend can continue
}

// Total returns how many calls the backend has admitted so far.
func (l *Load) Total() int64 { return l.total.Load() }

// Bound returns how many of the calls in flight no other backend can continue.
func (l *Load) Bound() int64 { return l.bound.Load() }

// Inflight returns how many calls the backend is working on.
func (l *Load) Inflight() int64 { return l.inflight.Load() }

// Waiting returns how many of them wait for the backend, and not for their client.
func (l *Load) Waiting() int64 { return max(l.waiting.Load(), 0) }

// Output returns the bytes of answers so far.
func (l *Load) Output() int64 { return l.output.Load() }
