package router

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
)

// Local is what the router needs of a llama-server that somebody supervises.
// State is asked once a call and must not wait for anything.
type Local interface {
	State() LocalState
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

// backend is somebody who can answer calls: a local server or an upstream.
type backend interface {
	name() string
	// availability says whether the backend may be given a call now.
	availability() availability
	// do sends a call under a model name of the backend's own and returns when
	// its headers are there. The body stays open as long as ctx.
	do(ctx context.Context, c *request.Request, model string) (*http.Response, error)
	// admit gives a call a place, or says why there is none. A call that has an
	// alternative need not wait; patience is how long it may.
	admit(ctx context.Context, c *request.Request, other alternative, patience time.Duration) (*place, *failure)
	// formFor returns another form in which the backend is given a call; nil = as
	// it is.
	formFor(c *request.Request) *aggregate.Form
	// heard is told how an admitted call went: its failure, nil if it was answered,
	// its place, and whether it is the client who left.
	heard(f *failure, at *place, left bool)
	// paid says whether an attempt may cost money.
	paid() bool
	// redact takes the backend's key out of what it said.
	redact(words string) string
	// load counts what the backend has to do.
	load() *traffic
}

// traffic is a backend's load.
type traffic struct {
	inflight atomic.Int64 // calls that it has; those that wait for a slot are not with it yet
	waiting  atomic.Int64 // those of them that wait for it, and not for their client to read
	output   atomic.Int64 // bytes of answers so far; pings and other comments are none
}

func (t *traffic) load() *traffic { return t }

type availability struct {
	reason Reason          // "" = give it calls
	detail string          // for a person
	alive  bool            // it would answer in spite of reason
	gone   <-chan struct{} // nil = nobody watches it
	hung   bool            // gone because it did nothing any more
	noKey  string          // what to set, for an upstream without its key

	returning  bool // it will take calls again by itself, and calls may wait for it
	retryAfter int  // seconds until a call is worth another try
}

// localBackend sends calls to a supervised llama-server.
type localBackend struct {
	traffic
	queue     *slotQueue
	stopping  <-chan struct{} // closed: calls no longer wait
	leftovers leftovers
	strange   sync.Map // by path: Gone of the process whose streams of that path were not understood
	server    string
	local     Local
	client    *http.Transport
}

// localHost is the host that requests to a local server name.
const localHost = "llama-server"

// llama-server closes a connection that is idle for 5 s; one that is given back
// sooner can't be closed under a call.
const localIdle = 3 * time.Second

func newLocalBackend(name string, local Local, stopping <-chan struct{}) *localBackend {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	queue := newSlotQueue(func() capacity { return local.State().capacity() })
	return &localBackend{server: name, local: local, queue: queue, stopping: stopping, client: &http.Transport{
		DialContext: request.WritevDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
			now := local.State()
			return dialer.DialContext(ctx, now.Network, now.Address)
		}),
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     localIdle,
		DisableCompression:  true, // bytes are passed on as they come
	}}
}

func (b *localBackend) name() string                 { return b.server }
func (b *localBackend) heard(*failure, *place, bool) {} // who watches it knows better
func (b *localBackend) paid() bool                   { return false }
func (b *localBackend) redact(s string) string       { return withoutKey(s, b.local.State().Key) }

func (b *localBackend) availability() availability {
	now := b.local.State()
	a := availability{reason: now.Reason, detail: now.Detail, alive: now.Alive, gone: now.Gone, hung: now.Hung}
	if now.Reason != "" {
		a.returning, a.retryAfter = now.Returning, now.retryAfter(time.Now())
	}
	return a
}

func (b *localBackend) do(ctx context.Context, c *request.Request, model string) (*http.Response, error) {
	payload := c.Body.WithModel(model)
	if form := progressOf(ctx).form; form != nil {
		payload = form.WithModel(model)
	}
	header := http.Header{}
	forwardHeaders(header, c.Header)
	header["Authorization"] = []string{"Bearer " + b.local.State().Key}
	// An attempt here costs nothing, so one that met a connection at its close
	// may be sent again. The empty value is not sent (net/http.Transport).
	header["X-Idempotency-Key"] = []string{}
	req := (&http.Request{
		Method: c.Method, URL: &url.URL{Scheme: "http", Host: localHost, Path: c.Path}, Host: localHost, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: request.AsBody(payload.Open()), ContentLength: int64(payload.Size()),
		GetBody: func() (io.ReadCloser, error) { return request.AsBody(payload.Open()), nil },
	}).WithContext(ctx)
	return b.client.RoundTrip(req)
}
