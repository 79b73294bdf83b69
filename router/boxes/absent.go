package boxes

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Absent is a server of a route that this box does not have: other boxes of the fleet may have
// it. It gets no calls itself.
type Absent struct {
	Name  string
	Boxes *Registry
}

// Info implements Backend.
func (b Absent) Info() backend.Info { return backend.Info{Name: b.Name, Local: true} }

// Availability implements Backend. The server is available if it is on another box.
func (b Absent) Availability() backend.Availability {
	now := backend.Availability{Reason: backend.Failed, Detail: "is not on this box, and no other box of the fleet has it", RetryAfter: wire.RetrySoon}
	for _, peer := range b.Boxes.Servers(b.Name) {
		switch there := peer.Availability(); {
		case there.Usable():
			return there
		case there.Returning && !now.Returning, now.Reason == backend.Failed:
			now = there
			now.Detail = "is not on this box; " + peer.Info().Name + " " + there.Detail
		}
	}
	return now
}

// Describe returns the status of the server on the box where it is best, what its
// model can do, and the largest context that it has on any box: a call for which one is too small
// goes to the others.
func (b Absent) Describe() (status string, d *models.Description) {
	d = &models.Description{}
	for _, peer := range b.Boxes.Servers(b.Name) {
		there, model := peer.Describe()
		if status == "" || there == "ready" {
			status = there
		}
		if len(d.Abilities) == 0 {
			d.Abilities = model.Abilities
		}
		d.CtxSize = max(d.CtxSize, model.CtxSize)
	}
	return status, d
}

// Admit implements Backend.
func (b Absent) Admit(context.Context, *backend.Attempt) (*backend.Lease, *backend.Failure) {
	now := b.Availability()
	return nil, &backend.Failure{Reason: cmp.Or(now.Reason, backend.Failed), Detail: now.Detail, RetryAfter: now.RetryAfter}
}

// Send implements Backend.
func (b Absent) Send(context.Context, *backend.Attempt) (*http.Response, error) {
	return nil, errors.New(b.Name + " is not on this box")
}

// Redact implements Backend.
func (b Absent) Redact(text string) string { return text }
