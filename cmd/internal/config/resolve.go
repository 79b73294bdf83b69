package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router"
)

// Resolve makes the routing table complete and validates everything. It adds,
// unless the file defines them,
//
//   - local/<server> for every server, with a fallback where its model is one
//     that the cloud is known to have,
//   - local/<model> for its model: by the name of the GGUF file, and by the short
//     name of a known model (local/qwen2.5-14b),
//   - local, for the first server,
//
// and fills in timeouts. The first server of those that a name could mean is the
// one that flags started, else the one with `default: true`, else the first one in
// the file. header returns the general.name in a server's GGUF, or "". Its errors
// name field, value and, where the file says it, the line.
func (c *Config) Resolve(header func(server string) string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if err := c.validateRoute(name, c.Routes[name]); err != nil {
			return err
		}
	}
	c.addLocalRoutes(header)
	for name, route := range c.Routes {
		if route.Timeout == 0 {
			route.Timeout = cloudTimeout
			if _, local := c.Servers[route.Primary]; local {
				route.Timeout = localTimeout
			}
		}
		c.Routes[name] = route
	}
	return c.CheckKeyRoutes(nil)
}

func (c *Config) addLocalRoutes(header func(server string) string) {
	built := models.LoadBuiltin()
	servers := c.serverOrder()
	modelNames := make([][]string, len(servers)) // by which a server's model is known
	for i, server := range servers {
		route := models.Route{Primary: server, Timeout: localTimeout}
		family, known := built.FamilyOf(server, header(server))
		if _, ok := c.Upstreams[openRouter]; known && ok {
			route.Fallback, route.FallbackModel, route.Resume = openRouter, family.FallbackModel, family.Resume
		}
		c.addRoute(models.LocalPrefix+server, route)
		if file := models.ServerName(c.Servers[server].Model); goodName.MatchString(file) {
			modelNames[i] = append(modelNames[i], file)
		}
		if known {
			modelNames[i] = append(modelNames[i], family.ShortName)
		}
	}
	for i, server := range servers { // after all servers' own names
		for _, name := range modelNames[i] {
			c.addRoute(models.LocalPrefix+name, c.Routes[models.LocalPrefix+server])
		}
	}
	if len(servers) > 0 {
		c.addRoute(models.LocalName, c.Routes[models.LocalPrefix+servers[0]])
	}
}

// serverOrder returns the servers' names in the order in which a name that fits
// several of them means them.
func (c *Config) serverOrder() []string {
	names := c.lines.keys("servers") // in the file's order
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	rank := func(name string) int {
		switch {
		case name == c.Started:
			return 0
		case c.Servers[name].Default:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return names
}

func (c *Config) addRoute(name string, route models.Route) {
	if _, defined := c.Routes[name]; !defined {
		c.Routes[name] = route
	}
}

// minTimeout and maxTimeout bound the waits that an operator can mean: what is
// shorter or longer has a wrong unit.
const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 24 * time.Hour
)

func (c *Config) validateRoute(name string, route models.Route) error {
	at := func(field, format string, args ...any) error {
		return c.lines.errorf([]string{"routes", name, field}, format, args...)
	}
	switch {
	case name == "" || strings.ContainsAny(name, " \t\r\n"):
		return c.lines.errorf([]string{"routes", name}, "a model name has no white space and is not empty")
	case route.Primary == "":
		return at("primary", "is missing; name a server, an upstream, or a base URL")
	case route.Timeout != 0 && (route.Timeout < minTimeout || route.Timeout > maxTimeout):
		return at("timeout", "%s is not between 100ms and 24h; leave it out for the default", route.Timeout)
	case route.Fallback == "" && route.FallbackModel != "":
		return at("fallback_model", "%q needs a fallback", route.FallbackModel)
	case route.Fallback == "" && route.FallbackOn != "":
		return at("fallback_on", "needs a fallback")
	case route.Fallback == "" && route.Resume:
		return at("resume", "needs a fallback, which continues what the primary breaks off")
	case route.Fallback == route.Primary:
		return at("fallback", "%q is the primary itself", route.Fallback)
	}
	for _, reason := range route.FallbackOn.Words() {
		if !slices.Contains(router.Reasons, router.Reason(reason)) {
			return at("fallback_on", "%s is no reason; there are %s", shown(reason), reasonNames())
		}
	}
	if err := c.checkTarget(route.Primary); err != nil {
		return at("primary", "%w", err)
	}
	if err := c.checkTarget(route.Fallback); err != nil && route.Fallback != "" {
		return at("fallback", "%w", err)
	}
	return nil
}

func reasonNames() string {
	var names []string
	for _, reason := range router.Reasons {
		names = append(names, string(reason))
	}
	return strings.Join(names, ", ")
}

// checkTarget wants the name of a server or an upstream, or a base URL.
func (c *Config) checkTarget(target string) error {
	if isURL(target) {
		return checkURL(target)
	}
	_, server := c.Servers[target]
	_, upstream := c.Upstreams[target]
	if !server && !upstream {
		return fmt.Errorf("there is no server and no upstream %s; there are %s", shown(target), strings.Join(c.targets(), ", "))
	}
	return nil
}

func (c *Config) targets() []string {
	return append(slices.Sorted(maps.Keys(c.Servers)), slices.Sorted(maps.Keys(c.Upstreams))...)
}
