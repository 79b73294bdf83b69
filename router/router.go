package router

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// Router is the endpoint. It is an http.Handler, safe for concurrent use.
type Router struct {
	localPaths []string // Endpoints of the local servers' engine

	log      zerolog.Logger
	metrics  *metrics
	registry *prometheus.Registry
	mux      http.Handler
	routing  atomic.Pointer[plan.Routing]
	inflight atomic.Int64
	calls    atomic.Int64
	started  time.Time
	stopping chan struct{} // closed: calls no longer wait for a server
	stop     sync.Once
}

// New makes a Router. An error says which URL cannot be parsed, or which backend of a
// route does not exist.
func New(cfg plan.Config, log zerolog.Logger) (*Router, error) {
	stopping := make(chan struct{})
	s, err := plan.NewRouting(cfg, &plan.Routing{Stopping: stopping, Via: backend.NewVia()}, log)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	rt := &Router{localPaths: cfg.Engine.Endpoints, log: log, registry: registry, metrics: newMetrics(registry), started: time.Now(), stopping: stopping}
	rt.routing.Store(s)
	registry.MustRegister(backendMetrics{rt}, accountingMetrics{rt})
	rt.mux = rt.surface()
	return rt, nil
}

// Reload puts another configuration in the place of the present one, or leaves
// that one as it is. Calls that have begun end under the old one. A backend that
// is in both keeps its connections and what is counted of it.
func (rt *Router) Reload(cfg plan.Config) error {
	old := rt.routing.Load()
	s, err := plan.NewRouting(cfg, old, rt.log)
	if err != nil {
		return err
	}
	s.Leaving = maps.Clone(old.Leaving)
	for name, b := range old.Backends {
		if server, ok := b.(*backend.Server); ok {
			s.Leaving[name] = server
		}
	}
	maps.DeleteFunc(s.Leaving, func(name string, _ *backend.Server) bool { return s.Server(name) != nil })
	rt.routing.Store(s)
	return nil
}

// Remove drops what is left of a local server that a reload has taken out, once
// its last call has ended. It must not run at the same time as Reload.
func (rt *Router) Remove(server string) {
	s := *rt.routing.Load()
	s.Leaving = maps.Clone(s.Leaving)
	delete(s.Leaving, server)
	rt.routing.Store(&s)
}

// Load is what a local server has to do.
type Load struct {
	Calls   int   // that it has
	Queued  int   // that wait for one of its slots
	Waiting int   // calls that wait for it; the others wait for a client to read
	Bytes   int64 // of answers so far; pings do not count: an engine that hangs sends them, too
}

// Load returns what the local server of that name has to do, or, if it is no longer in
// the routing, what it has left to do.
func (rt *Router) Load(server string) Load {
	now := rt.routing.Load()
	b := now.Server(server)
	if b == nil {
		b = now.Leaving[server]
	}
	if b == nil {
		return Load{}
	}
	_, queued, _ := b.Queue()
	return Load{int(b.Inflight()), queued, int(b.Waiting()), b.Output()}
}

// RegisterMetrics adds the figures of another collector to /metrics.
func (rt *Router) RegisterMetrics(c prometheus.Collector) error { return rt.registry.Register(c) }

// ServeHTTP answers one request. The connection of one with a Transfer-Encoding is
// closed then: it may have a Content-Length as well, and what comes after it may be
// meant as its body (RFC 9112, 6.1). net/http shows only one of the two, in HTTP/1.0
// not even that; clients that know the length of their requests keep their connections.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
	rt.mux.ServeHTTP(w, r)
}

// RejectWaiting answers the calls that wait for a local server with 503, and those
// that wait for a slot of one with 429: llmsup stops before they could be served.
func (rt *Router) RejectWaiting() { rt.stop.Do(func() { close(rt.stopping) }) }

// Inflight returns how many calls are being worked on.
func (rt *Router) Inflight() int { return int(rt.inflight.Load()) }

// Calls returns how many have come so far, answered or not.
func (rt *Router) Calls() int64 { return rt.calls.Load() }
