package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// CheckKeyRoutes returns an error for a model, or a pattern of models, in a key's routes
// that no route can ever serve. A bare name without a route may be one of OpenRouter's:
// listed reports whether it is, and is nil until its list has been read. Call Resolve
// first.
func (c *Config) CheckKeyRoutes(listed func(bare string) bool) error {
	table, err := c.Table()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		for i, pattern := range c.Keys[name].Routes {
			if !c.mayServe(table, pattern, listed) {
				return c.positions.errorfFor("keys."+name+".routes", []string{"keys", name, "routes", strconv.Itoa(i)},
					"no route serves %s; there are %s", QuoteSafe(pattern), strings.Join(table.Names(), ", "))
			}
		}
	}
	return nil
}

func (c *Config) mayServe(table *models.Table, pattern string, listed func(bare string) bool) bool {
	switch {
	case pattern == models.LocalName || pattern == models.LocalPrefix+"*": // all local models, even if there are none
		return true
	case table.Serves(pattern):
		return true
	case strings.ContainsAny(pattern, "*/"):
		return false
	}
	_, completed := c.Upstreams[openRouter]
	return completed && table.Serves("*/"+pattern) && (listed == nil || listed(pattern))
}

// HasKeyRoute reports whether a key has this model in its routes.
func (c *Config) HasKeyRoute(name string) bool {
	for _, key := range c.Keys {
		if slices.Contains(key.Routes, name) {
			return true
		}
	}
	return false
}
