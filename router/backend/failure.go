package backend

import (
	"net/http"

	"github.com/llmsup/llmsup/router/resume"
	"github.com/llmsup/llmsup/router/wire"
)

// Phase is how far a request came at a backend before it failed. It decides whether
// the request may be sent again: what was sent may have been generated, and billed.
type Phase int

// NotSent --the request is written--> Sent --headers--> Rejected    nothing was generated
//
//	|
//	+-----headers--> Generating  something may have been
const (
	NotSent    Phase = iota // the backend has not received the request, or has done nothing about it
	Sent                    // it has the request, and no headers came: it may be generating
	Rejected                // its headers came, and say that it has generated nothing
	Generating              // its headers came, and it may have generated something
)

func (p Phase) String() string {
	return [...]string{"not sent", "sent", "rejected", "generating"}[p]
}

// MayHaveGenerated says whether the backend may have generated something, and so may
// bill the request.
func (p Phase) MayHaveGenerated() bool { return p == Sent || p == Generating }

// HeadersReceived says whether the backend has answered at all.
func (p Phase) HeadersReceived() bool { return p == Rejected || p == Generating }

// Next is what the backend that failed could do with the call.
type Next int

// What Next may be.
const (
	Nothing         Next = iota // another attempt at this backend makes no sense
	Retry                       // it would take the call later; it was not waited for, since the call had an alternative
	RetryUnmodified             // it would answer the call if it were sent as the client wrote it
)

// Failure is an attempt that brought no answer.
type Failure struct {
	Backend    string // its name
	Reason     Reason
	Phase      Phase
	Next       Next
	Detail     string    // for a person, without the backend's name; it is logged
	Message    string    // the backend's own words: they may quote a prompt, so only the caller gets them
	Response   *Response // the backend's own error; nil = it gave none that can be passed on
	RetryAfter int       // seconds, as the backend asked; 0 = it did not

	HadFairChance bool                  // no headers came in a time in which a healthy upstream sends them
	UnknownFormat bool                  // its stream has a form that aggregate does not know
	Partial       *resume.PartialAnswer // the beginning of an answer that broke off; nil = none that could be continued
	Usage         wire.Usage            // what the backend reported
}

// Response is a backend's own error.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// LogMessage is for the log and for other callers.
func (f *Failure) LogMessage() string { return f.Backend + " " + f.Detail }

// ClientMessage is for the client whose call it was.
func (f *Failure) ClientMessage() string {
	if f.Message == "" {
		return f.LogMessage()
	}
	return f.LogMessage() + ": " + f.Message
}

// InvalidRequest says that the backend found the request itself to be wrong.
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

// HTTPStatus is what a client gets if no other backend is left.
func (f *Failure) HTTPStatus() int {
	switch {
	case f.Response != nil && wire.IsErrorStatus(f.Response.Status):
		return f.Response.Status
	case f.Reason == Timeout:
		return http.StatusGatewayTimeout
	case f.Reason == Saturated:
		return http.StatusTooManyRequests
	case f.Reason == Draining, f.Reason == Drained, f.Reason == Restarting, f.Reason == Starting, f.Reason == Loading, f.Reason == Failed:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// Billable says whether the attempt may have been billed. An upstream's own error
// status comes before it has generated anything, unless it is that of a gateway that
// did not wait for the backend behind it.
func (f *Failure) Billable() bool {
	if !f.Phase.MayHaveGenerated() {
		return false
	}
	r := f.Response
	return r == nil || !wire.IsErrorStatus(r.Status) || isTimeoutStatus(r.Status) || r.Status == http.StatusServiceUnavailable
}
