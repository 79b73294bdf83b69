package boxes

import (
	"context"
	"errors"
	"net/http"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Absent is a server of a route that this box does not have: other boxes of the fleet may have
// it. Its value is the server's name.
type Absent string

// Info implements Backend.
func (b Absent) Info() backend.Info { return backend.Info{Name: string(b), Local: true} }

// Availability implements Backend.
func (Absent) Availability() backend.Availability {
	return backend.Availability{Reason: backend.Failed, Detail: "is not on this box, and no other box of the fleet can answer", RetryAfter: wire.RetrySoon}
}

// Admit implements Backend.
func (b Absent) Admit(context.Context, *backend.Attempt) (*backend.Lease, *backend.Failure) {
	now := b.Availability()
	return nil, &backend.Failure{Reason: now.Reason, Detail: now.Detail, RetryAfter: now.RetryAfter}
}

// Send implements Backend.
func (Absent) Send(context.Context, *backend.Attempt) (*http.Response, error) {
	return nil, errors.New("it is not on this box")
}

// Redact implements Backend.
func (Absent) Redact(text string) string { return text }
