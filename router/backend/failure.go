package backend

import (
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// Phase is how far a request got at a backend before it failed. It decides whether the
// request may be sent again: a request that was sent may have been processed, and billed.
type Phase int

// What Phase may be:
//
//	NotSent --the request is written--> Sent --headers--> Rejected    nothing was generated
//	                                      |
//	                                      +-----headers--> Generating  something may have been
const (
	NotSent    Phase = iota // the backend has not received the request, or has not processed it
	Sent                    // it has received the request and sent no headers: it may be generating
	Rejected                // it has sent headers that show that it generated nothing
	Generating              // it has sent headers, and may have generated something
)

func (p Phase) String() string {
	return [...]string{"not sent", "sent", "rejected", "generating"}[p]
}

// MayHaveGenerated reports whether the backend may have generated something, and so may
// bill the request.
func (p Phase) MayHaveGenerated() bool { return p == Sent || p == Generating }

// HeadersReceived reports whether the backend has sent a status and headers.
func (p Phase) HeadersReceived() bool { return p == Rejected || p == Generating }

// Next is whether another attempt at the backend that failed could succeed.
type Next int

// What Next may be.
const (
	NoRetry         Next = iota // another attempt at this backend would fail, too
	Retry                       // it would accept the call later; the call did not wait, since it had an alternative
	RetryUnmodified             // it would answer the call if the body were sent as the client wrote it
)

// Failure is why an attempt has no answer.
type Failure struct {
	Backend    string // its name
	Reason     Reason
	Phase      Phase
	Next       Next
	Detail     string    // what happened, in plain text without the backend's name; it is logged
	Message    string    // the backend's own message: it may quote a prompt, so only the client receives it
	Response   *Response // the backend's own error; nil = none that can be passed on
	RetryAfter int       // seconds, from the backend's Retry-After; 0 = it sent none

	NeedsOperator bool // only an operator can change it
	OverContext   bool // the prompt is longer than the context of the server

	MayWait      bool          // the server has all slots busy, and room in its queue: the call may wait there
	ExpectedWait time.Duration // for how long, if MayWait; an estimate, 0 = unknown

	HadFairChance bool                  // a healthy upstream would have sent headers within the time
	UnknownFormat bool                  // package aggregate does not know the format of the stream
	Partial       *resume.PartialAnswer // the beginning of a truncated answer; nil = none that could be continued
	Usage         wire.Usage            // as reported by the backend
}

// Response is a backend's own error.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// ResponseStatus returns the status of the backend's own error; 0 = it sent none.
func (f *Failure) ResponseStatus() int {
	if f.Response == nil {
		return 0
	}
	return f.Response.Status
}

// LogMessage is the message for the log and for other clients.
func (f *Failure) LogMessage() string { return f.Backend + " " + f.Detail }

// ClientMessage is the message for the client that made the call.
func (f *Failure) ClientMessage() string {
	if f.Message == "" {
		return f.LogMessage()
	}
	return f.LogMessage() + ": " + f.Message
}

// InvalidRequest reports whether the backend rejected the request as invalid.
func (f *Failure) InvalidRequest() bool {
	if f.Reason != Status || f.Response == nil {
		return false
	}
	switch f.Response.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// HTTPStatus is the status for the client if no other backend is left.
func (f *Failure) HTTPStatus() int {
	switch {
	case f.Response != nil && wire.IsErrorStatus(f.Response.Status):
		return f.Response.Status
	case f.Reason == Timeout:
		return http.StatusGatewayTimeout
	case f.Reason == Saturated:
		return http.StatusTooManyRequests
	case f.Reason == Draining, f.Reason == Drained, f.Reason == Restarting, f.Reason == Starting, f.Reason == Loading, f.Reason == Unloaded, f.Reason == Failed:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// Billable reports whether the attempt may have been billed. An upstream sends an error
// status before it generates anything, unless the status is that of a gateway that did
// not wait for the backend behind it.
func (f *Failure) Billable() bool {
	if !f.Phase.MayHaveGenerated() {
		return false
	}
	r := f.Response
	return r == nil || !wire.IsErrorStatus(r.Status) || isTimeoutStatus(r.Status) || r.Status == http.StatusServiceUnavailable
}
