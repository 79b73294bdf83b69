package backend

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
)

// Local is a supervised server as the router sees it. State and AddDemand are called for calls, and
// must not block.
type Local interface {
	// Engine returns what the router has to know of the server's program. A reload may
	// replace it; what was returned does not change.
	Engine() *models.Capabilities
	State() LocalState
	// AddDemand counts a call that needs the server, whose Reason is Unloaded. waits is whether
	// the call waits for it instead of going elsewhere. A call that waits only because it
	// failed elsewhere is counted as both.
	AddDemand(waits bool)
	// BusySlots returns how many slots of the server are working on a call.
	BusySlots(context.Context) (int, error)
}

// LocalState is a supervised server at one moment.
type LocalState struct {
	Reason  Reason // why calls should go elsewhere; "" = it accepts calls
	Detail  string // the reason in plain text, as in "is restarting: exit status 1"
	Alive   bool   // it answers; with a Reason it gets a call only if no other backend can answer
	Network string // "unix" or "tcp"
	Address string // a socket's path, or host:port
	Key     string // the API key that the server requires; secret; "" = none
	// Gone is closed when the process behind Address has exited or is about to be
	// killed: the calls that wait for it move on at once.
	Gone <-chan struct{}
	// Hung is whether the process behind a closed Gone was killed because it hung.
	Hung bool
	// Slots is how many calls the server works on at once; 0 = unknown.
	Slots int
	// Changed is closed when the state has changed.
	Changed <-chan struct{}
	// Returning is whether a server that accepts no calls will accept them again
	// without an operator: it is unloaded, starting, loading or being replaced. Calls that
	// have no other backend wait for it.
	Returning bool
	// OnDemand is whether a call has the model loaded: a server that is Returning can serve the
	// call then, in whatever state it is.
	OnDemand bool
	// ReadyAt is when a server that accepts no calls will probably accept them again;
	// zero = unknown.
	ReadyAt time.Time
	// LoadsIn is after what time the model would be loaded if a call came for it now; 0 = it is
	// loaded, or the time is unknown, or other models with calls would have to make room first.
	LoadsIn time.Duration
	// Status is the server's state, as `llmsup status` shows it: "ready", "loading", ...
	Status string
	// Description is what is known of the model, whether it is loaded or not; nil = nothing.
	Description *models.Description
	// SupportsAggregation is whether a non-streaming call may be sent to the server as
	// a streaming call: its streams contain everything that its whole answers contain.
	SupportsAggregation bool
}

// Server sends calls to a supervised server.
type Server struct {
	Load
	paidInstead    paidInstead
	name           string
	local          Local
	queue          *slotQueue
	orphaned       orphanedSlots
	prompts        pick.PromptRate
	stopping       <-chan struct{} // closed: calls no longer wait
	client         *http.Transport
	unknownFormats sync.Map // by path: Gone of the process whose streams of that path have an unknown format
}

// localHost is the Host of requests to a local server.
const localHost = "localhost"

// localIdle is how long a connection to a local server may be idle. llama-server closes
// it after 5 s; closing it earlier here keeps a call from being written to a connection
// that is being closed.
const localIdle = 3 * time.Second

// NewServer returns the backend of a local server. Once stopping is closed, calls no
// longer wait for it.
func NewServer(name string, local Local, stopping <-chan struct{}) *Server {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	queue := newSlotQueue(func() capacity { return local.State().capacity() })
	return &Server{
		name: name, local: local, queue: queue, stopping: stopping, client: &http.Transport{
			DialContext: request.WritevDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
				now := local.State()
				return dialer.DialContext(ctx, now.Network, now.Address)
			}),
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     localIdle,
			DisableCompression:  true, // bytes are passed on unchanged
		},
	}
}

// Is reports whether the backend is that of a local server.
func (b *Server) Is(local Local) bool { return b.local == local }

// Engine returns what is known of the server's program. It must not be changed.
func (b *Server) Engine() *models.Capabilities { return b.local.Engine() }

// Queue returns how many of the server's slots are taken, how many calls wait for one, and
// how long a call holds its slots on average; 0 = unknown.
func (b *Server) Queue() (taken, waiting int, service time.Duration) { return b.queue.load() }

// ExpectedWait returns for how long a call at a path would wait for a slot; 0 = it needs none, a slot
// is free, or it is unknown whether one is.
func (b *Server) ExpectedWait(path string) time.Duration {
	if slices.Contains(b.Engine().Slots.None, path) {
		return 0
	}
	return b.queue.expectedWait()
}

// Slots returns how many calls the server works on at once; 0 = unknown.
func (b *Server) Slots() int { return b.local.State().Slots }

// PromptRate returns how many tokens of prompts per second the server processes, without those
// that its cache has; 0 = unknown.
func (b *Server) PromptRate() float64 { return b.prompts.PerSecond() }

// Served records how long an answered call held its slots.
func (b *Server) Served(service time.Duration) { b.queue.served(service) }

// Info implements Backend.
func (b *Server) Info() Info {
	return Info{Name: b.name, Local: true, PartialResponses: b.Engine().PartialResponses}
}

// Describe returns the server's state, as `llmsup status` shows it, and what is known of
// its model, which must not be changed; nil = nothing.
func (b *Server) Describe() (status string, d *models.Description) {
	now := b.local.State()
	return now.Status, now.Description
}

// Redact implements Backend.
func (b *Server) Redact(text string) string { return redactKey(text, b.local.State().Key) }

// Availability implements Backend.
func (b *Server) Availability() Availability {
	now := b.local.State()
	a := Availability{Model: now.Description, Reason: now.Reason, Detail: now.Detail, Alive: now.Alive, Hung: now.Hung}
	if now.Reason != "" {
		a.OnDemand, a.LoadsIn = now.OnDemand, now.LoadsIn
		a.Returning, a.RetryAfter, a.NeedsOperator = now.Returning, now.retryAfter(time.Now()), now.needsOperator(time.Now())
	}
	return a
}

// Send implements Backend.
func (b *Server) Send(ctx context.Context, a *Attempt) (*http.Response, error) {
	r, now := a.Request, b.local.State()
	header := http.Header{}
	ForwardHeaders(header, r.Header)
	if now.Key != "" {
		header["Authorization"] = []string{"Bearer " + now.Key}
	}
	path := r.Path
	if base := b.Engine().BasePath; base != "" {
		path = addressOf(strings.TrimRight(base, "/"), path)
	}
	return a.SendFree(ctx, b.client, &url.URL{Scheme: "http", Host: localHost, Path: path, RawQuery: r.Query}, header)
}

// Listens reports whether the server's process accepts connections. The kernel closes the
// listener of a process that exits before it closes the process's connections.
func (b *Server) Listens(ctx context.Context) bool {
	conn, err := b.client.DialContext(ctx, "", "")
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}

// form returns the form in which a call is sent; nil = as the client wrote it. A
// non-streaming call is sent as a streaming call: see package aggregate.
func (b *Server) form(a *Attempt) *aggregate.Form {
	now := b.local.State()
	if !now.SupportsAggregation || a.Unmodified {
		return nil
	}
	if gone, unknown := b.unknownFormats.Load(a.Request.Path); unknown && gone == now.Gone {
		return nil
	}
	return FormOf(a.Request)
}

// FormOf returns a call as a streaming call that reports its usage; nil = it has no such form.
func FormOf(r *request.Request) *aggregate.Form {
	asked := aggregate.AsStream
	if r.Body.Stream {
		asked = aggregate.WithUsage
	}
	form, ok := asked(r.Body, r.Path)
	if !ok {
		return nil
	}
	return &form
}

// UnknownFormat makes the router send calls of a path unchanged until the server is
// restarted: its streams of that path cannot be aggregated.
func (b *Server) UnknownFormat(path string) { b.unknownFormats.Store(path, b.local.State().Gone) }
