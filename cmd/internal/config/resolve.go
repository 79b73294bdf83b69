package config

import (
	"cmp"
	"maps"
	"slices"

	"github.com/llmsup/llmsup/models"
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
		if file := models.ServerName(c.Servers[server].Model); validName.MatchString(file) {
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

func (c *Config) addRoute(name string, route models.Route) {
	if _, defined := c.Routes[name]; !defined {
		c.Routes[name] = route
	}
}
