package router

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
)

// routing is everything that the route of a call depends on. It is immutable: a call that
// has begun under one table ends under it.
type routing struct {
	table      *models.Table
	backends   map[string]backend.Backend // by the name, or the URL, that routes use
	leaving    map[string]*backend.Server // that are in no route any more, and may have calls left
	maxBody    int64
	access     *access.Policy
	accounting *accounting.Accounting
	catalog    Catalog
	engine     models.Capabilities // of the local servers

	fallbackTimeout time.Duration
	idleTimeout     time.Duration

	stopping <-chan struct{} // the Router's
	via      string          // the Router's entry in Via; see loop.go
}

// newRouting makes a routing of a configuration and of the backends that an
// older one has.
func newRouting(cfg Config, old *routing, log zerolog.Logger) (*routing, error) {
	s := &routing{
		table: cfg.Table, maxBody: cfg.MaxBody, access: cfg.Access.Clone(), accounting: &cfg.Accounting, catalog: cfg.Catalog, engine: cfg.Engine, stopping: old.stopping, via: old.via, backends: map[string]backend.Backend{}, leaving: map[string]*backend.Server{},
		fallbackTimeout: cmp.Or(cfg.FallbackTimeout, defaultFallbackTimeout),
		idleTimeout:     cmp.Or(cfg.IdleTimeout, defaultIdleTimeout),
	}
	for name, local := range cfg.Locals {
		b := cmp.Or(old.server(name), old.leaving[name])
		if b == nil || !b.Is(local) {
			b = backend.NewServer(name, local, cfg.Engine.Slots, s.stopping)
		}
		s.backends[name] = b
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

func (s *routing) addUpstream(name string, u backend.UpstreamConfig, old *routing, log zerolog.Logger) error {
	if b, ok := old.backends[name].(*backend.Upstream); ok && b.Config() == u {
		s.backends[name] = b
		return nil
	}
	b, err := backend.NewUpstream(u, s.via, log)
	if err != nil {
		return err
	}
	s.backends[name] = b
	return nil
}

// addURL makes a backend of a target that is a base URL. Its name is its host.
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
	return s.addUpstream(target, backend.UpstreamConfig{Name: u.Host, BaseURL: target}, old, log)
}

// server returns the local server of a name; nil = there is none.
func (s *routing) server(name string) *backend.Server {
	b, _ := s.backends[name].(*backend.Server)
	return b
}

// sortedBackends returns the names of all backends, sorted.
func (s *routing) sortedBackends() []string { return slices.Sorted(maps.Keys(s.backends)) }
