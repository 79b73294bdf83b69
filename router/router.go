package router

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
)

// Config is what a Router works from.
type Config struct {
	Table      *models.Table
	Locals     map[string]Local // by the name that routes use
	Upstreams  []Upstream
	MaxBody    int64 // bytes of a request's body
	Access     access.Policy
	Accounting accounting.Accounting
	Catalog    Catalog             // nil = names are never completed
	Fields     models.EngineFields // of a request, that only the engine of the Locals knows

	FallbackTimeout time.Duration // to a fallback's first answer; 0 = 120 s
	IdleTimeout     time.Duration // of a stream that has begun, without a byte; 0 = 120 s
}

// Router is the endpoint. It is an http.Handler, safe for concurrent use.
type Router struct {
	log      zerolog.Logger
	metrics  *metrics
	registry *prometheus.Registry
	mux      http.Handler
	routing  atomic.Pointer[routing]
	inflight atomic.Int64
	calls    atomic.Int64
	started  time.Time
	stopping chan struct{} // closed: calls no longer wait for a server
	stop     sync.Once
}

// routing is everything that a call's way depends on. It is immutable, so that
// a call that has begun under one table ends under it.
type routing struct {
	table      *models.Table
	backends   map[string]backend       // by the name, or the URL, that routes use
	leaving    map[string]*localBackend // that are in no route any more, and may have calls left
	maxBody    int64
	access     *access.Policy
	accounting *accounting.Accounting
	catalog    Catalog
	fields     models.EngineFields

	fallbackTimeout time.Duration
	idleTimeout     time.Duration

	stopping <-chan struct{} // the Router's
	via      string          // the Router's name; see loop.go
}

// New makes a Router. Its errors speak of URLs that can't be parsed.
func New(cfg Config, log zerolog.Logger) (*Router, error) {
	stopping := make(chan struct{})
	s, err := newRouting(cfg, &routing{stopping: stopping, via: viaPrefix + rand.Text()}, log)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	rt := &Router{log: log, registry: registry, metrics: newMetrics(registry), started: time.Now(), stopping: stopping}
	rt.routing.Store(s)
	registry.MustRegister(backendMetrics{rt}, bookMetrics{rt})
	rt.mux = rt.surface()
	return rt, nil
}

// Reload puts another configuration in the place of the present one, or leaves
// that one as it is. Calls that have begun end under the old one. A backend that
// is in both keeps its connections and what is counted of it.
func (rt *Router) Reload(cfg Config) error {
	old := rt.routing.Load()
	s, err := newRouting(cfg, old, rt.log)
	if err != nil {
		return err
	}
	s.leaving = maps.Clone(old.leaving)
	for name, b := range old.backends {
		if local, ok := b.(*localBackend); ok {
			s.leaving[name] = local
		}
	}
	maps.DeleteFunc(s.leaving, func(name string, _ *localBackend) bool { return s.local(name) != nil })
	rt.routing.Store(s)
	return nil
}

// newRouting makes a routing of a configuration and of the backends that an
// older one has.
func newRouting(cfg Config, old *routing, log zerolog.Logger) (*routing, error) {
	s := &routing{
		table: cfg.Table, maxBody: cfg.MaxBody, access: cfg.Access.Clone(), accounting: &cfg.Accounting, catalog: cfg.Catalog, fields: cfg.Fields, stopping: old.stopping, via: old.via, backends: map[string]backend{}, leaving: map[string]*localBackend{},
		fallbackTimeout: cmp.Or(cfg.FallbackTimeout, defaultFallbackTimeout),
		idleTimeout:     cmp.Or(cfg.IdleTimeout, defaultIdleTimeout),
	}
	for name, local := range cfg.Locals {
		b := cmp.Or(old.local(name), old.leaving[name])
		if b == nil || b.local != local {
			b = newLocalBackend(name, local, s.stopping)
		}
		s.backends[name] = b
	}
	for _, u := range cfg.Upstreams {
		if err := s.addUpstream(u.Name, u, old, log); err != nil {
			return nil, fmt.Errorf("upstream %s: base_url: %w", u.Name, err)
		}
	}
	for _, route := range cfg.Table.Routes() {
		for _, target := range []string{route.Primary, route.Fallback} {
			if err := s.addURL(target, old, log); err != nil {
				return nil, fmt.Errorf("route %s: %w", route.Name, err)
			}
		}
	}
	return s, nil
}

func (s *routing) addUpstream(name string, u Upstream, old *routing, log zerolog.Logger) error {
	if b, ok := old.backends[name].(*upstreamBackend); ok && b.Upstream == u {
		s.backends[name] = b
		return nil
	}
	b, err := newUpstreamBackend(u, s.via, log)
	if err != nil {
		return err
	}
	s.backends[name] = b
	return nil
}

// addURL makes a backend of a target that is a base URL. It goes by its host.
func (s *routing) addURL(target string, old *routing, log zerolog.Logger) error {
	if target == "" || s.backends[target] != nil {
		return nil
	}
	if !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") {
		return fmt.Errorf("there is no server and no upstream %q", target)
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	return s.addUpstream(target, Upstream{Name: u.Host, BaseURL: target}, old, log)
}

// Forget drops what is left of a local server that a reload has taken out, once
// its last call has ended. It must not run at the same time as Reload.
func (rt *Router) Forget(server string) {
	s := *rt.routing.Load()
	s.leaving = maps.Clone(s.leaving)
	delete(s.leaving, server)
	rt.routing.Store(&s)
}

// Traffic is what a local server has to do.
type Traffic struct {
	Calls   int   // that it has
	Queued  int   // that wait for one of its slots
	Waiting int   // those of them that wait for it; the others wait for a client to read
	Bytes   int64 // of answers so far; pings are none: they come from an engine that hangs, too
}

// Traffic returns what the local server of that name has to do, or, where it is
// no longer in the routing, what it has left to do.
func (rt *Router) Traffic(server string) Traffic {
	now := rt.routing.Load()
	b := now.local(server)
	if b == nil {
		b = now.leaving[server]
	}
	if b == nil {
		return Traffic{}
	}
	load := b.load()
	_, queued := b.queue.load()
	return Traffic{int(load.inflight.Load()), queued, max(int(load.waiting.Load()), 0), load.output.Load()}
}

// Register adds somebody else's figures to /metrics.
func (rt *Router) Register(c prometheus.Collector) error { return rt.registry.Register(c) }

// local returns the local server of a name; nil = it has none.
func (s *routing) local(name string) *localBackend {
	b, _ := s.backends[name].(*localBackend)
	return b
}

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

// sortedBackends returns the names of all backends, sorted.
func (s *routing) sortedBackends() []string { return slices.Sorted(maps.Keys(s.backends)) }
