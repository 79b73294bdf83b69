package wire

import (
	"cmp"
	"slices"
	"strings"
)

// Edit replaces raw[From:To] by Text.
type Edit struct {
	From, To int
	Text     string
}

// Apply returns raw with the changes made. They must not overlap.
func Apply(raw string, changes []Edit) string {
	slices.SortFunc(changes, func(a, b Edit) int { return cmp.Compare(a.From, b.From) })
	var out strings.Builder
	at := 0
	for _, c := range changes {
		out.WriteString(raw[at:c.From])
		out.WriteString(c.Text)
		at = c.To
	}
	out.WriteString(raw[at:])
	return out.String()
}
