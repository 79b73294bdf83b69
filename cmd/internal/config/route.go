package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
)

// minTimeout and maxTimeout limit timeouts. A shorter or longer one probably has a wrong
// unit.
const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 24 * time.Hour
)

func (c *Config) validateRoute(name string, route models.Route) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"routes", name, field}, format, args...)
	}
	switch {
	case name == "" || strings.ContainsAny(name, " \t\r\n"):
		return c.positions.errorf([]string{"routes", name}, "a model name has no white space and is not empty")
	case route.Primary == "":
		return at("primary", "is missing; set a server, an upstream, or a base URL")
	case route.Timeout != 0 && (route.Timeout < minTimeout || route.Timeout > maxTimeout):
		return at("timeout", "%s is not between 100ms and 24h; leave it out for the default", route.Timeout)
	}
	if err := c.checkTarget(route.Primary); err != nil {
		return at("primary", "%w", err)
	}
	if err := c.validateFallback(name, route); err != nil {
		return err
	}
	if err := c.validateFallbackList(name, route); err != nil {
		return err
	}
	if err := c.checkWhileLoading(route); err != nil {
		return at("while_loading", "%w", err)
	}
	return c.validateEdits(name, route)
}

// validateFallback checks `fallback` and the fields that need a fallback.
func (c *Config) validateFallback(name string, route models.Route) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"routes", name, field}, format, args...)
	}
	none := len(route.FallbackList()) == 0
	switch {
	case route.Fallback != "" && len(route.Fallbacks) > 0:
		return at("fallbacks", "the route also has fallback: %s; move it into fallbacks as {to: ..., model: ...}", QuoteSafe(route.Fallback))
	case route.FallbackModel != "" && len(route.Fallbacks) > 0:
		return at("fallback_model", "%q belongs to fallback; in fallbacks every item has its own model, as in {to: openrouter, model: NAME}", route.FallbackModel)
	case none && route.FallbackModel != "":
		return at("fallback_model", "%q needs a fallback", route.FallbackModel)
	case none && route.FallbackOn != "":
		return at("fallback_on", "needs a fallback")
	case none && route.Resume && !c.Fleet.Enabled(): // else another box continues it
		return at("resume", "needs a fallback, which continues a broken stream")
	case route.Fallback == route.Primary:
		return at("fallback", "%q is the primary itself", route.Fallback)
	}
	for _, reason := range route.FallbackOn.Words() {
		if !slices.Contains(models.Reasons, models.Reason(reason)) {
			return at("fallback_on", "%s is not a reason; the reasons are %s", QuoteSafe(reason), reasonNames())
		}
	}
	if err := c.checkTarget(route.Fallback); err != nil && route.Fallback != "" {
		return at("fallback", "%w", err)
	}
	return nil
}

// validateFallbackList checks `fallbacks`. A backend may be in it only once, so
// that a call never returns to one that has already failed it.
func (c *Config) validateFallbackList(name string, route models.Route) error {
	seen := map[string]bool{}
	for i, fallback := range route.Fallbacks {
		at := func(format string, args ...any) error {
			return c.positions.errorfFor("routes."+name+".fallbacks", []string{"routes", name, "fallbacks", strconv.Itoa(i)}, format, args...)
		}
		switch {
		case fallback.To == "":
			return at("item %d has no `to`; set a server, an upstream, or a base URL", i+1)
		case fallback.To == route.Primary:
			return at("%s is the primary itself", QuoteSafe(fallback.To))
		case seen[fallback.To]:
			return at("%s is in the list twice; keep one", QuoteSafe(fallback.To))
		}
		seen[fallback.To] = true
		if err := c.checkTarget(fallback.To); err != nil {
			return at("item %d: %w", i+1, err)
		}
		if c.leadsHere(fallback.To) {
			return at("%s is llmsup's own address (listen), so its calls would come back; name another backend", QuoteSafe(fallback.To))
		}
	}
	return nil
}

// checkWhileLoading checks `while_loading` of a route.
func (c *Config) checkWhileLoading(route models.Route) error {
	_, local := c.Servers[route.Primary]
	timeout, limit := cmp.Or(route.Timeout, localTimeout), time.Duration(route.WhileLoading)
	switch {
	case route.WhileLoading == 0:
		return nil
	case !local:
		return fmt.Errorf("needs a primary whose model llmsup loads, and %s is not in servers", QuoteSafe(route.Primary))
	case len(route.FallbackList()) == 0:
		return errors.New("needs a fallback; without one, calls wait for the server anyway")
	case limit > timeout:
		return fmt.Errorf("%s is longer than the route's timeout of %s, which ends the wait; raise timeout, or set wait", limit, timeout)
	}
	return nil
}

// validateEdits checks `set`, `force` and `strip` of a route and of its fallbacks.
func (c *Config) validateEdits(name string, route models.Route) error {
	if err := c.checkEdits([]string{"routes", name}, "routes."+name, route.Edits); err != nil {
		return err
	}
	for i, fallback := range route.Fallbacks {
		at := []string{"routes", name, "fallbacks", strconv.Itoa(i)}
		if err := c.checkEdits(at, "routes."+name+".fallbacks: item "+strconv.Itoa(i+1), models.MergeEdits(fallback.Edits, route.Edits)); err != nil {
			return err
		}
	}
	return nil
}

// checkEdits checks the edits at a path of the file; shown names it for messages.
func (c *Config) checkEdits(path []string, shown string, e *models.Edits) error {
	wrong := e.Check()
	if wrong == nil {
		return nil
	}
	path = append(path, wrong.Key)
	if wrong.Key == "strip" {
		path = append(path, strconv.Itoa(slices.Index(e.Strip, wrong.Name)))
	} else {
		path = append(path, wrong.Name)
	}
	return c.positions.errorfFor(shown+"."+wrong.Key, path, "%s %s", QuoteSafe(wrong.Name), wrong.Problem)
}

// leadsHere reports whether a backend is a base URL, or an upstream with one, that
// names the address at which llmsup itself listens. Where the URL leads here in
// another way, through a proxy or another name, the router finds out.
func (c *Config) leadsHere(target string) bool {
	if upstream, ok := c.Upstreams[target]; ok {
		target = upstream.BaseURL
	}
	u, err := url.Parse(target)
	host, port, listenErr := net.SplitHostPort(c.Listen)
	if err != nil || listenErr != nil || u.Host == "" {
		return false
	}
	urlPort := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	if urlPort != port {
		return false
	}
	own, theirs := net.ParseIP(host), net.ParseIP(u.Hostname())
	loopback := func(name string, ip net.IP) bool {
		return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
	}
	if loopback(u.Hostname(), theirs) {
		return loopback(host, own) || host == "" || own != nil && own.IsUnspecified()
	}
	return strings.EqualFold(host, u.Hostname()) || own != nil && own.Equal(theirs)
}

func reasonNames() string {
	var names []string
	for _, reason := range models.Reasons {
		names = append(names, string(reason))
	}
	return strings.Join(names, ", ")
}

// checkTarget checks that a target is a server, an upstream, or a base URL.
func (c *Config) checkTarget(target string) error {
	if isURL(target) {
		return checkURL(target)
	}
	_, server := c.Servers[target]
	_, upstream := c.Upstreams[target]
	if !server && !upstream && !c.Fleet.Enabled() { // else another box may have the server
		return fmt.Errorf("there is no server and no upstream %s; there are %s", QuoteSafe(target), strings.Join(c.targets(), ", "))
	}
	return nil
}

func (c *Config) targets() []string {
	return append(slices.Sorted(maps.Keys(c.Servers)), slices.Sorted(maps.Keys(c.Upstreams))...)
}
