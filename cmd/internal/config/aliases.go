package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// resolveAliases checks the aliases of all routes, removes the built-in routes that they
// replace, and returns the name of each alias's route.
func (c *Config) resolveAliases() (routeOf map[string]string, err error) {
	routeOf = map[string]string{}
	for _, name := range c.routeOrder() {
		for i, alias := range c.Routes[name].Aliases {
			at := func(format string, args ...any) error {
				return c.positions.errorfFor("routes."+name+".aliases", []string{"routes", name, "aliases", strconv.Itoa(i)}, format, args...)
			}
			other, taken := routeOf[alias]
			switch {
			case alias == "" || strings.ContainsAny(alias, " \t\r\n*"):
				return nil, at("an alias is the exact name of a model, without white space and *")
			case strings.Contains(name, "*"):
				return nil, at("a pattern has no aliases; make a route with an exact name for %s", QuoteSafe(alias))
			case alias == name:
				return nil, at("%s is the route's own name; remove it here", QuoteSafe(alias))
			case taken && other == name:
				return nil, at("%s is in the list twice; keep one", QuoteSafe(alias))
			case taken:
				return nil, at("%s is an alias of the route %s already; keep one", QuoteSafe(alias), other)
			case c.positions.has("routes", alias):
				return nil, at("%s is a route of its own in this file; keep the route or the alias", QuoteSafe(alias))
			}
			routeOf[alias] = name
			delete(c.Routes, alias) // a built-in one
		}
	}
	return routeOf, nil
}

// routeOrder returns the names of all routes, in the file's order, so that of two equal
// aliases the later one is the mistake.
func (c *Config) routeOrder() []string {
	names := c.positions.keys("routes")
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
