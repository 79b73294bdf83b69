package plan

import (
	"cmp"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/request"
)

// Config is the configuration of a Routing.
type Config struct {
	Table      *models.Table
	Locals     map[string]backend.Local // by the name that routes use
	Upstreams  []backend.UpstreamConfig
	Boxes      *boxes.Registry // the other boxes of the fleet; nil = this one is in none
	Bodies     request.Limits  // of requests
	Access     access.Policy
	Accounting accounting.Accounting
	Catalog    Catalog             // nil = names are never completed
	Engine     models.Capabilities // the engine whose own API the router has, beside the public ones: its Endpoints, Aliases and Fields; a reload does not change them

	Timeouts
}

// Timeouts are those that no route sets.
type Timeouts struct {
	FallbackTimeout time.Duration // until a fallback's first answer; 0 = 120 s. A route's own timeout is that of its primary
	IdleTimeout     time.Duration // how long a stream that has begun may send nothing; 0 = 120 s. Backends that need longer send comments meanwhile
	KeepAliveAfter  time.Duration // how long a stream waits for its model until its response begins; 0 = 10 s
}

// orDefaults returns the timeouts with the defaults in place of zeros.
func (t Timeouts) orDefaults() Timeouts {
	return Timeouts{
		FallbackTimeout: cmp.Or(t.FallbackTimeout, 120*time.Second),
		IdleTimeout:     cmp.Or(t.IdleTimeout, 120*time.Second),
		KeepAliveAfter:  cmp.Or(t.KeepAliveAfter, 10*time.Second),
	}
}
