package plan

import (
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

	FallbackTimeout time.Duration // until a fallback's first answer; 0 = 120 s
	IdleTimeout     time.Duration // how long a stream that has begun may send nothing; 0 = 120 s
	KeepAliveAfter  time.Duration // how long a stream waits for its model until its response begins; 0 = 10 s
}

// defaultFallbackTimeout is how long a fallback may take until its first answer. A route's
// own timeout is that of its primary.
const defaultFallbackTimeout = 120 * time.Second

// defaultKeepAliveAfter is how long a stream waits for its model until its response begins.
const defaultKeepAliveAfter = 10 * time.Second

// defaultIdleTimeout is how long a stream that has begun may send nothing. Backends that
// need longer send comments meanwhile.
const defaultIdleTimeout = 120 * time.Second
