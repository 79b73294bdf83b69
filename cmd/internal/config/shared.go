package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// SharedSections are the sections of llmsup.yaml that a fleet can define for all its boxes.
var SharedSections = []string{"keys", "routes", "budget"}

// Shared is what a fleet defines for all its boxes.
type Shared struct {
	Version  uint64   // in the fleet
	Sections []string // of SharedSections, that it defines
	config   Config   // with these sections only
}

// ParseShared reads the sections that a fleet can define from a file in the form of llmsup.yaml.
// The other sections must be valid YAML and have known keys, and count as nothing.
func ParseShared(path string, raw []byte, version uint64) (*Shared, error) {
	s := &Shared{Version: version}
	root, err := decode(path, raw, &s.config)
	if err != nil {
		return nil, err
	}
	s.config.positions = positions{file: path, root: root}
	for _, section := range SharedSections {
		if s.config.positions.has(section) {
			s.Sections = append(s.Sections, section)
		}
	}
	if len(s.Sections) == 0 {
		return nil, fmt.Errorf("%s has none of the sections %s, so there is nothing to share", path, strings.Join(SharedSections, ", "))
	}
	return s, nil
}

// Defines reports whether the fleet defines a section. A nil Shared defines none.
func (s *Shared) Defines(section string) bool {
	return s != nil && slices.Contains(s.Sections, section)
}

// Use takes over what the fleet defines, before Validate. Its keys and routes replace those of
// the file. Its budget limits the fleet, and comes in addition: that of the file limits this
// box.
func (c *Config) Use(s *Shared) {
	c.Shared, c.ownKeys, c.ownRoutes = s, c.Keys, c.Routes
	if s.Defines("keys") {
		c.Keys = maps.Clone(s.config.Keys)
	}
	if s.Defines("routes") {
		c.Routes = overlay(models.LoadBuiltin().Routes, s.config.Routes)
	}
	if s.Defines("budget") {
		c.FleetBudget = s.config.Budget
	}
	c.positions.shared = s
}

// replacedChanges says which sections of the file are not used any more, or have changed although
// they are not used.
func (c *Config) replacedChanges(old *Config) (changes []string) {
	for _, section := range c.Replaced() {
		same := reflect.DeepEqual(c.ownKeys, old.ownKeys)
		if section == "routes" {
			same = reflect.DeepEqual(c.ownRoutes, old.ownRoutes)
		}
		if !same || !old.Shared.Defines(section) {
			changes = append(changes, fmt.Sprintf("%s of llmsup.yaml: not used, since they are from the fleet, version %d; llmsup fleet push changes those", section, c.Shared.Version))
		}
	}
	return changes
}

// Targets returns the backends that the routes name, each with its place in the file.
func (s *Shared) Targets() map[string]string { return s.config.Targets() }

// Targets returns the backends that the routes name, each with its place in the file.
func (c *Config) Targets() map[string]string {
	targets := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		route := c.Routes[name]
		targets[route.Primary] = "routes." + name
		for _, fallback := range route.FallbackList() {
			targets[fallback.To] = "routes." + name
		}
	}
	return targets
}

// Replaced returns the sections of the file that are not used, since the fleet defines them.
func (c *Config) Replaced() []string {
	return slices.DeleteFunc(slices.Clone(SharedSections), func(section string) bool {
		return section == "budget" || !c.Shared.Defines(section) || !c.positions.inFile(section)
	})
}

// AwaitsKeys reports whether the box rejects clients' calls (not those of other boxes) until its fleet defines keys: other
// machines can reach it, and it has none of its own.
func (c *Config) AwaitsKeys() bool {
	return !c.Loopback() && len(c.Keys) == 0 && !c.InsecureNoAuth && c.Fleet.Enabled()
}
