package backend

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
)

// Local is what the router needs of a supervised llama-server. State is called for each
// call and must not block.
type Local interface {
	State() LocalState
	// BusySlots returns how many slots of the server work on a call.
	BusySlots(context.Context) (int, error)
}

// LocalState is a supervised server at one moment.
type LocalState struct {
	Reason  Reason // why calls should go elsewhere; "" when it may be given calls
	Detail  string // the same for a person, as in "is restarting: exit status 1"
	Alive   bool   // it answers; with Reason set: use it only where nobody else can
	Network string // "unix" or "tcp"
	Address string // a socket's path, or host:port
	Key     string // the API key that it asks for; secret
	// Gone is closed when the process behind Address has ended or is given up:
	// whoever waits on it moves on at once.
	Gone <-chan struct{}
	// Hung says, once Gone is closed, that it was given up for doing nothing.
	Hung bool
	// Slots is how many calls it works on at once; 0 = nobody knows.
	Slots int
	// Changed is closed when the state is another one.
	Changed <-chan struct{}
	// Returning says of a server that takes no calls that it will by itself: it
	// starts, loads or is being replaced. Calls that have no other backend wait.
	Returning bool
	// ReadyAt is when a server that takes no calls probably does again; zero =
	// unknown.
	ReadyAt time.Time
	// Streams says that a call without a stream may be given to it as one with:
	// it is a llama-server whose streams say all that its whole answers do.
	Streams bool
}

// Server sends calls to a supervised llama-server.
type Server struct {
	Load
	name     string
	local    Local
	queue    *slotQueue
	orphaned orphanedSlots
	slots    models.SlotUse
	stopping <-chan struct{} // closed: calls no longer wait
	client   *http.Transport
	unknown  sync.Map // by path: Gone of the process whose streams of that path were not understood
}

// localHost is the host that requests to a local server name.
const localHost = "llama-server"

// llama-server closes a connection that is idle for 5 s. One that is closed here sooner
// can't be closed while a call is written to it.
const localIdle = 3 * time.Second

// NewServer makes the backend of a local server. Once stopping is closed, calls no longer
// wait for it.
func NewServer(name string, local Local, slots models.SlotUse, stopping <-chan struct{}) *Server {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	queue := newSlotQueue(func() capacity { return local.State().capacity() })
	return &Server{name: name, local: local, slots: slots, queue: queue, stopping: stopping, client: &http.Transport{
		DialContext: request.WritevDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			now := local.State()
			return dialer.DialContext(ctx, now.Network, now.Address)
		}),
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     localIdle,
		DisableCompression:  true, // bytes are passed on as they come
	}}
}

// Is says whether the backend is that of a local server.
func (b *Server) Is(local Local) bool { return b.local == local }

// Queue returns how many of the server's slots are taken, how many calls wait for one, and
// how long a call holds its slots on average; 0 = unknown.
func (b *Server) Queue() (taken, waiting int, service time.Duration) { return b.queue.load() }

// Served records how long an answered call held its slots.
func (b *Server) Served(service time.Duration) { b.queue.served(service) }

// Info implements Backend.
func (b *Server) Info() Info { return Info{Name: b.name, Local: true} }

// Redact implements Backend.
func (b *Server) Redact(text string) string { return withoutKey(text, b.local.State().Key) }

// Availability implements Backend.
func (b *Server) Availability() Availability {
	now := b.local.State()
	a := Availability{Reason: now.Reason, Detail: now.Detail, Alive: now.Alive, Hung: now.Hung}
	if now.Reason != "" {
		a.Returning, a.RetryAfter = now.Returning, now.retryAfter(time.Now())
	}
	return a
}

// Send implements Backend.
func (b *Server) Send(ctx context.Context, a *Attempt) (*http.Response, error) {
	r, payload := a.Request, a.payload()
	header := http.Header{}
	forwardHeaders(header, r.Header)
	header["Authorization"] = []string{"Bearer " + b.local.State().Key}
	// An attempt here costs nothing, so net/http may send it again if it was written to
	// a connection that was being closed. The empty value is not sent (net/http.Transport).
	header["X-Idempotency-Key"] = []string{}
	a.sentAt = time.Now()
	req := (&http.Request{
		Method: r.Method, URL: &url.URL{Scheme: "http", Host: localHost, Path: r.Path}, Host: localHost, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: request.AsBody(payload.Open()), ContentLength: int64(payload.Size()),
		GetBody: func() (io.ReadCloser, error) { return request.AsBody(payload.Open()), nil },
	}).WithContext(a.traced(ctx))
	return b.client.RoundTrip(req)
}

// form returns the form in which a call is sent; nil = as the client wrote it. A call
// without a stream is sent as one with a stream: see package aggregate.
func (b *Server) form(a *Attempt) *aggregate.Form {
	now := b.local.State()
	if !now.Streams || a.Unmodified {
		return nil
	}
	if gone, unknown := b.unknown.Load(a.Request.Path); unknown && gone == now.Gone {
		return nil
	}
	asked := aggregate.AsStream
	if a.Request.Body.Stream {
		asked = aggregate.WithUsage
	}
	form, ok := asked(a.Request.Body, a.Request.Path)
	if !ok {
		return nil
	}
	return &form
}

// UnknownFormat has the server, until it is restarted, answer the calls of a path as the
// clients write them: its streams of that path can't be put together.
func (b *Server) UnknownFormat(path string) { b.unknown.Store(path, b.local.State().Gone) }
