package report

import (
	"cmp"
	"slices"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// groups are sums by the name of their group.
type groups map[string]control.Sums

func (g groups) add(list []control.UsageGroup) {
	for _, one := range list {
		sums := g[one.Name]
		add(&sums, one.Sums)
		g[one.Name] = sums
	}
}

// list returns the groups, sorted by name.
func (g groups) list() []control.UsageGroup {
	list := []control.UsageGroup{}
	for name, sums := range g {
		list = append(list, control.UsageGroup{Name: name, Sums: sums})
	}
	slices.SortFunc(list, func(a, b control.UsageGroup) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// add adds sums as one ledger with all calls would have them: a sum is null if all values are
// unknown, and a box without such calls knows that they cost nothing.
func add(to *control.Sums, more control.Sums) {
	to.Add(more)
	if to.UnknownTokens > 0 && zero(to.Prompt) && zero(to.Completion) {
		to.Prompt, to.Cached, to.Completion = nil, nil, nil
	}
	if to.UnknownCost > 0 && zero(to.Cost) {
		to.Cost = nil
	}
	if to.UnknownSaved > 0 && zero(to.Saved) {
		to.Saved = nil
	}
}

func zero[T int64 | control.USD](n *T) bool { return n == nil || *n == 0 }

// usageSum adds up the usage of boxes.
type usageSum struct {
	total                        control.Usage
	boxes, groups, reasons, days groups
	incomplete                   []string
}

// add adds the usage of a box.
func (s *usageSum) add(box string, u control.Usage) {
	if s.total.From.IsZero() || u.From.Before(s.total.From) {
		s.total.From = u.From
	}
	if u.To.After(s.total.To) {
		s.total.To = u.To
	}
	add(&s.total.Total, u.Total)
	s.boxes.add([]control.UsageGroup{{Name: box, Sums: u.Total}})
	s.groups.add(u.Groups)
	s.reasons.add(u.Reasons)
	s.days.add(u.Days)
	s.incomplete = appendNote(s.incomplete, box, u.Incomplete)
}

// usage returns the sum, grouped as it was asked for.
func (s *usageSum) usage(by string) control.Usage {
	u := s.total
	u.Boxes, u.Groups, u.Incomplete = s.boxes.list(), s.groups.list(), joinNotes(s.incomplete)
	switch by {
	case "":
		u.Reasons, u.Days = s.reasons.list(), s.days.list()
	case "box":
		u.Groups = u.Boxes
	}
	return u
}
