package router

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/collect"
	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/modellist"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Router is the endpoint. It is an http.Handler, safe for concurrent use.
type Router struct {
	endpoints *endpoint.Table

	log      zerolog.Logger
	metrics  *metrics
	origins  access.RejectedOrigins
	registry *prometheus.Registry
	guarded  http.Handler // serveAny behind the guard
	list     *modellist.Handler
	pages    map[string]http.HandlerFunc // by their path
	routing  atomic.Pointer[plan.Routing]
	inflight atomic.Int64
	calls    atomic.Int64
	running  inflight.Registry
	stopping chan struct{} // closed: calls no longer wait for a server
	stop     sync.Once
}

// New returns a Router. It returns an error if a URL cannot be parsed, or if a route names
// a backend that does not exist.
func New(cfg plan.Config, log zerolog.Logger) (*Router, error) {
	stopping := make(chan struct{})
	s, err := plan.NewRouting(cfg, &plan.Routing{Stopping: stopping, Via: backend.NewVia()}, log)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	rt := &Router{endpoints: endpoint.NewTable(cfg.Engine), log: log, registry: registry, metrics: newMetrics(registry), stopping: stopping}
	rt.routing.Store(s)
	rt.metrics.addServers(s.Backends)
	registry.MustRegister(collect.Collectors(rt.routing.Load)...)
	rt.list = &modellist.Handler{Routing: rt.routing.Load, Created: time.Now().Unix()}
	rt.pages = rt.pagesByPath()
	rt.guarded = rt.guard(http.HandlerFunc(rt.serveAny))
	return rt, nil
}

// Reload replaces the configuration, or returns an error and changes nothing. Calls that
// have begun end under the old configuration. A backend that is in both keeps its
// connections and counts.
func (rt *Router) Reload(cfg plan.Config) error {
	old := rt.routing.Load()
	s, err := plan.NewRouting(cfg, old, rt.log)
	if err != nil {
		return err
	}
	s.Removed = maps.Clone(old.Removed)
	for name, b := range old.Backends {
		if server, ok := b.(*backend.Server); ok {
			s.Removed[name] = server
		}
	}
	maps.DeleteFunc(s.Removed, func(name string, _ *backend.Server) bool { return s.Server(name) != nil })
	rt.routing.Store(s)
	rt.metrics.addServers(s.Backends)
	return nil
}

// Remove forgets a local server that a reload has removed, once its last call has ended.
// It must not run at the same time as Reload.
func (rt *Router) Remove(server string) {
	s := *rt.routing.Load()
	s.Removed = maps.Clone(s.Removed)
	delete(s.Removed, server)
	rt.routing.Store(&s)
	rt.metrics.removeServer(server)
}

// Load is the load of a local server.
type Load = plan.Load

// Load returns the load of a local server. A server that a reload has removed may still
// have calls.
func (rt *Router) Load(server string) Load { return rt.routing.Load().Load(server) }

// RegisterMetrics adds another collector to /metrics.
func (rt *Router) RegisterMetrics(c prometheus.Collector) error { return rt.registry.Register(c) }

// ServeHTTP answers one request. After a request with a Transfer-Encoding the connection is
// closed: the request may have a Content-Length, too, so that the following bytes may be
// part of its body (RFC 9112, 6.1). net/http shows only one of the two headers, in HTTP/1.0
// neither. Clients that send a Content-Length keep their connections.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set(wire.HeaderRequestID, request.IDOf(r))
	rt.guarded.ServeHTTP(w, withPath(r, rt.endpoints.Main(r.URL.Path)))
}

// ServeFor serves a request of a client that the caller has authenticated; nil = no key is
// required.
func (rt *Router) ServeFor(key *access.Key, w http.ResponseWriter, r *http.Request) {
	request.LimitTime(w, r, rt.Access().BodyTimeout)
	w.Header().Set(wire.HeaderRequestID, request.IDOf(r))
	rt.serveAny(w, r.WithContext(access.WithKey(r.Context(), key)))
}

// Access returns the present access policy, which must not be changed.
func (rt *Router) Access() *access.Policy { return rt.routing.Load().Access }

// RejectWaiting answers the calls that wait for a local server with 503, and those that
// wait for a slot with 429: llmsup is stopping.
func (rt *Router) RejectWaiting() { rt.stop.Do(func() { close(rt.stopping) }) }

// Inflight returns how many calls are in flight.
func (rt *Router) Inflight() int { return int(rt.inflight.Load()) }

// Calls returns how many calls have been received so far, answered or not.
func (rt *Router) Calls() int64 { return rt.calls.Load() }

// Explain plans a call without making it.
func (rt *Router) Explain(model string) plan.Explanation { return rt.routing.Load().Explain(model) }

// RoutesWithoutFallback returns the routes, sorted by name, whose calls no backend could
// answer while the given local servers are drained.
func (rt *Router) RoutesWithoutFallback(drained []string) []string {
	return rt.routing.Load().RoutesWithoutFallback(drained)
}

// Upstreams returns the upstreams, sorted by name.
func (rt *Router) Upstreams() []plan.UpstreamHealth { return rt.routing.Load().Upstreams() }

// Routes returns the listed models that a key may use, and what answers calls for them; nil
// = all.
func (rt *Router) Routes(key *access.Key) []modellist.Route { return rt.list.Routes(key) }
