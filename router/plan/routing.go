package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/request"
)

// Routing is everything that the route of a call depends on. It is immutable: a reload
// replaces it, and a call keeps the Routing with which it started.
type Routing struct {
	Table      *models.Table
	Backends   map[string]backend.Backend // by the name or the URL in the routes
	Removed    map[string]*backend.Server // servers that a reload has removed, and that may still have calls
	Boxes      *boxes.Registry            // the other boxes of the fleet; nil = this one is in none
	Bodies     request.Limits
	Access     *access.Policy
	Accounting *accounting.Accounting
	catalog    Catalog
	Engine     models.Capabilities // the engine whose own API the router has
	timeouts   Timeouts

	Stopping <-chan struct{} // the Router's
	Via      string          // the Router's entry in Via, from backend.NewVia
}

// NewRouting returns the Routing of a configuration. It keeps those backends of the old
// one whose configuration has not changed.
func NewRouting(cfg Config, old *Routing, log zerolog.Logger) (*Routing, error) {
	s := &Routing{
		Table: cfg.Table, Boxes: cfg.Boxes, Bodies: cfg.Bodies, Access: cfg.Access.Clone(), Accounting: &cfg.Accounting,
		catalog: cfg.Catalog, Engine: cfg.Engine, timeouts: cfg.orDefaults(), Stopping: old.Stopping, Via: old.Via,
		Backends: map[string]backend.Backend{}, Removed: map[string]*backend.Server{},
	}
	for name, local := range cfg.Locals {
		b := cmp.Or(old.Server(name), old.Removed[name])
		if b == nil || !b.Is(local) {
			b = backend.NewServer(name, local, s.Stopping)
		}
		s.Backends[name] = b
	}
	for _, u := range cfg.Upstreams {
		if err := s.addUpstream(u.Name, u, old, log); err != nil {
			return nil, fmt.Errorf("upstream %s: base_url: %w", u.Name, err)
		}
	}
	for _, route := range cfg.Table.Routes() {
		targets := []string{route.Primary}
		for _, fallback := range route.FallbackList() {
			targets = append(targets, fallback.To)
		}
		for _, target := range targets {
			if err := s.addURL(target, old, log); err != nil {
				return nil, fmt.Errorf("route %s: %w", route.Name, err)
			}
		}
	}
	return s, nil
}

func (s *Routing) addUpstream(name string, u backend.UpstreamConfig, old *Routing, log zerolog.Logger) error {
	if b, ok := old.Backends[name].(*backend.Upstream); ok && b.Config() == u {
		s.Backends[name] = b
		return nil
	}
	b, err := backend.NewUpstream(u, s.Via, log)
	if err != nil {
		return err
	}
	s.Backends[name] = b
	return nil
}

// addURL adds the backend of a target that is a base URL. Its name is its host.
func (s *Routing) addURL(target string, old *Routing, log zerolog.Logger) error {
	if target == "" || s.Backends[target] != nil {
		return nil
	}
	if !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") {
		if s.Boxes == nil {
			return fmt.Errorf("there is no server and no upstream %q", target)
		}
		s.Backends[target] = boxes.Absent{Name: target, Boxes: s.Boxes}
		return nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	return s.addUpstream(target, backend.UpstreamConfig{Name: u.Host, BaseURL: target}, old, log)
}

// Backend returns the backend of a route's target. The target may be a server that only other boxes
// have.
func (s *Routing) Backend(target string) backend.Backend {
	if b := s.Backends[target]; b != nil {
		return b
	}
	return boxes.Absent{Name: target, Boxes: s.Boxes}
}

// Server returns the local server of a name; nil = there is none.
func (s *Routing) Server(name string) *backend.Server {
	b, _ := s.Backends[name].(*backend.Server)
	return b
}

// SortedBackends returns the names of all backends, sorted.
func (s *Routing) SortedBackends() []string { return slices.Sorted(maps.Keys(s.Backends)) }
