package backend

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/request"
)

// Backend can answer calls.
type Backend interface {
	Info() Info
	// Availability says whether the backend takes a call now. It never blocks.
	Availability() Availability
	// Admit waits until the backend takes the call, or says why it does not.
	Admit(ctx context.Context, a *Attempt) (*Lease, *Failure)
	// Send sends an admitted call and returns when the answer's headers are there. The
	// body stays open as long as ctx.
	Send(ctx context.Context, a *Attempt) (*http.Response, error)
	// Redact removes the backend's key from a text.
	Redact(text string) string
}

// Info is what does not change about a backend.
type Info struct {
	Name    string
	Local   bool // it is a supervised llama-server
	Metered bool // it bills what it answers
}

// Availability is whether a backend takes calls at one moment.
type Availability struct {
	Reason     Reason // "" = it takes calls
	Detail     string // the same for a person
	Alive      bool   // it would answer in spite of Reason
	Hung       bool   // its process was given up because it did nothing any more
	MissingKey string // what to set, for an upstream without its key
	Returning  bool   // it will take calls again by itself, and calls may wait for it
	RetryAfter int    // seconds until a call is worth another try
}

// Usable says whether a call may be given to the backend now. A degraded server is
// usable.
func (a Availability) Usable() bool {
	return a.MissingKey == "" && (a.Reason == "" || a.Reason == Degraded && a.Alive)
}

// Attempt is one call at one backend. Send fills in how far the request has come.
type Attempt struct {
	Request     *request.Request
	Model       string      // the model's name at the backend
	Alternative Alternative // where the call may go instead
	Timeout     time.Duration
	Deadline    time.Time // for the first answer: Timeout from the attempt's start
	Unmodified  bool      // the body is sent as the client wrote it

	Lease *Lease // what Admit returned

	sentAt       time.Time   // when the request was sent last, or was to be
	connected    atomic.Bool // it has a connection
	wroteHeaders atomic.Bool // set by the transport's goroutine, which can outlive a cancelled call
}

// Alternative says for which reasons a call may move to the next candidate of its
// plan. The zero value: there is no next candidate.
type Alternative struct {
	Exists bool
	On     func(Reason) bool // the route's fallback_on
}

// Allows says whether the call may move for a reason.
func (a Alternative) Allows(reason Reason) bool { return a.Exists && a.On(reason) }

// Load counts what a backend has to do.
type Load struct {
	inflight atomic.Int64 // calls that it has; those that wait for a slot are not with it yet
	waiting  atomic.Int64 // those of them that wait for it, and not for their client to read
	output   atomic.Int64 // bytes of answers so far; pings and other comments do not count
}

// Inflight returns how many calls the backend has.
func (l *Load) Inflight() int64 { return l.inflight.Load() }

// Waiting returns how many calls wait for the backend, and not for their client.
func (l *Load) Waiting() int64 { return max(l.waiting.Load(), 0) }

// Output returns the bytes of answers so far.
func (l *Load) Output() int64 { return l.output.Load() }
