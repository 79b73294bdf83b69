package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// Resolve completes the routing table and validates the configuration. It adds these
// routes unless the file defines them:
//
//   - local/<server> for every server, with a fallback if its model is known to be
//     available in the cloud,
//   - local/<model>, by the name of the GGUF file and by the short name of a known model
//     (local/qwen2.5-14b),
//   - local, for the first server.
//
// It also sets default timeouts. If a name fits several servers, it means the one that
// flags define, else the one with `default: true`, else the first one in the file. header
// returns the general.name in a server's GGUF, or "". Errors name field, value and, if
// the file has it, the line.
func (c *Config) Resolve(header func(server string) string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if err := c.validateRoute(name, c.Routes[name]); err != nil {
			return err
		}
	}
	aliases, err := c.resolveAliases()
	if err != nil {
		return err
	}
	c.addLocalRoutes(header, aliases)
	for name, route := range c.Routes {
		if route.Timeout == 0 {
			route.Timeout = cloudTimeout
			if _, cloud := c.Upstreams[route.Primary]; !cloud && !strings.Contains(route.Primary, "://") { // a server, perhaps on another box
				route.Timeout = localTimeout
			}
		}
		c.Routes[name] = route
	}
	return c.CheckKeyRoutes(nil)
}

// addLocalRoutes adds the routes of the servers. routeOf has the routes of the aliases in the
// file, which replace routes of the same names.
func (c *Config) addLocalRoutes(header func(server string) string, routeOf map[string]string) {
	built := models.LoadBuiltin()
	servers := c.serverOrder()
	modelNames := make([][]string, len(servers)) // names of each server's model
	for i, server := range servers {
		route := models.Route{Primary: server, Timeout: localTimeout}
		modelName := header(server)
		if c.Servers[server].Ref() != "" { // the routes do not depend on whether it is downloaded yet
			modelName = serverName(c.Servers[server].Model)
		}
		family, known := built.FamilyOf(server, modelName)
		if _, ok := c.Upstreams[openRouter]; known && ok {
			route.Fallback, route.FallbackModel, route.Resume = openRouter, family.FallbackModel, family.Resume
		}
		c.addRoute(models.LocalPrefix+server, route, routeOf)
		if file := serverName(c.Servers[server].Model); validName.MatchString(file) {
			modelNames[i] = append(modelNames[i], file)
		}
		if known {
			modelNames[i] = append(modelNames[i], family.ShortName)
		}
	}
	for i, server := range servers { // after all servers' names, which have precedence
		for _, name := range modelNames[i] {
			c.addRoute(models.LocalPrefix+name, c.routeNamed(models.LocalPrefix+server, routeOf), routeOf)
		}
	}
	if len(servers) > 0 {
		c.addRoute(models.LocalName, c.routeNamed(models.LocalPrefix+servers[0], routeOf), routeOf)
	}
}

// serverOrder returns the servers' names, in order of precedence for a name that fits
// several of them.
func (c *Config) serverOrder() []string {
	names := c.positions.keys("servers") // in the file's order
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	rank := func(name string) int {
		switch {
		case name == c.FlagServer:
			return 0
		case c.Servers[name].Default:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return names
}

// addRoute adds a route unless the file has one of that name or alias.
func (c *Config) addRoute(name string, route models.Route, routeOf map[string]string) {
	_, defined := c.Routes[name]
	if _, isAlias := routeOf[name]; !defined && !isAlias {
		c.Routes[name] = route
	}
}

// routeNamed returns a copy of the route with a name or alias, for another name. The aliases
// stay with the original.
func (c *Config) routeNamed(name string, routeOf map[string]string) models.Route {
	route := c.Routes[cmp.Or(routeOf[name], name)]
	route.Aliases = nil
	return route
}
