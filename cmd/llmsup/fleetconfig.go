package main

import (
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// fleetConfig prints what the fleet defines for a box, and what does not work with that.
func (p *page) fleetConfig(c *control.FleetConfiguration) {
	if c == nil {
		return
	}
	switch {
	case len(c.Sections) > 0:
		p.sentence("  ", "fleet: %s are from the fleet, version %d, which %s%s", strings.Join(c.Sections, ", "), c.Version, pushedBy(&control.FleetDocument{PushedBy: c.PushedBy, PushedAt: *c.PushedAt}), replaced(c.Replaced))
	case c.Version > 0:
		p.sentence("  ", "fleet: version %d of the fleet's configuration defines nothing, so llmsup.yaml holds", c.Version)
	}
	if c.Problem != "" {
		p.sentence("  ", "fleet: %s", printable(c.Problem))
	}
	for _, warning := range c.UnknownTargets {
		p.sentence("  ", "fleet: %s", printable(warning))
	}
}

// configVersion returns a version of the fleet's configuration for a table.
func configVersion(version uint64) string {
	if version == 0 {
		return "-"
	}
	return strconv.FormatUint(version, 10)
}

// configProblems prints what does not work with the fleet's configuration, by box.
func (p *page) configProblems(boxes []control.Box) {
	for _, b := range boxes {
		if b.ConfigProblem != "" {
			p.line("")
			p.sentence("  ", "%s: %s", b.Name, printable(b.ConfigProblem))
		}
	}
}
