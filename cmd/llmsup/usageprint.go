package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// maxModels is how many models the page without --by lists.
const maxModels = 15

// printUsage prints usage for people: grouped by one dimension, or without it the
// summary page.
func printUsage(out io.Writer, u control.Usage, by string, d display) error {
	p := &page{out: out, display: d}
	if u.Incomplete != "" {
		p.sentence("", "Calls may be missing here: %s", printable(u.Incomplete))
		p.line("")
	}
	if u.Total.Calls == 0 {
		p.line("No call was recorded%s %s. Later calls appear here", boxesOf(u.FleetReport), period(u))
		p.line("with their tokens, their cost, and what local saved.")
		return p.err
	}
	p.sentence("", "Usage%s %s", boxesOf(u.FleetReport), period(u))
	p.totals(u.Total)
	switch {
	case by == "day":
		p.groupTable(by, u.Groups)
		p.dayChart(u.Groups)
	case by != "":
		p.groupTable(by, byCalls(u.Groups))
	default:
		if len(u.Boxes) > 1 {
			p.groupTable("box", u.Boxes)
		}
		p.groupTable("model", largest(maxModels, byCalls(u.Groups)))
		p.reasonTable(u)
		p.dayChart(u.Days)
	}
	if p.hasUnknown {
		p.line("\n+ and more: unknown for some of the calls.  ? unknown.")
	}
	return p.err
}

// printUsageLine prints the totals on one line, for a log.
func printUsageLine(out io.Writer, u control.Usage) error {
	t := u.Total
	p := &page{}
	lacks := strings.Join(append([]string{""}, fleetNotes(u.FleetReport, sumsLack)...), "; ") // each after a semicolon
	_, err := fmt.Fprintf(out, "%s %s%s since %s, %s local, paid %s USD, saved %s USD%s\n", u.To.Format(time.RFC3339), plural(int(t.Calls), "call"), boxesOf(u.FleetReport),
		u.From.Format(time.RFC3339), percent(t.Local, t.Calls), p.amount(t.Cost, t.UnknownCost), p.amount(t.Saved, t.UnknownSaved), lacks)
	return err
}

func period(u control.Usage) string {
	const layout = "2006-01-02 15:04"
	return "from " + u.From.UTC().Format(layout) + " to " + u.To.UTC().Format(layout) + " UTC"
}

func (p *page) totals(t control.Sums) {
	calls := []string{fmt.Sprint(t.Calls)}
	for _, of := range []struct {
		n    int64
		what string
	}{{t.Failed, "failed"}, {t.Partial, "were cut off or cancelled"}, {t.Resumed, "broke off and were resumed"}} {
		if of.n > 0 {
			calls = append(calls, fmt.Sprintf("%d %s", of.n, of.what))
		}
	}
	p.line("\ncalls   %s", strings.Join(calls, ", "))
	p.line("local   %s were answered by local servers (%d)", percent(t.Local, t.Calls), t.Local)
	tokens := ""
	if t.Prompt != nil {
		tokens = fmt.Sprintf("%s in, %s of them cached; %s out", abbreviate(*t.Prompt), abbreviate(*t.Cached), abbreviate(*t.Completion))
	}
	p.line("tokens  %s", withUnknown(tokens, t.UnknownTokens))
	switch {
	case t.Paid == 0:
		p.line("paid    nothing: no call went to a paid backend")
	case t.Cost == nil:
		p.line("paid    %s", withUnknown("", t.UnknownCost))
	default:
		p.line("paid    %s", withUnknown(fmt.Sprintf("%s USD for %s", dollars(*t.Cost), plural(int(t.Paid-t.UnknownCost), "call")), t.UnknownCost))
	}
	saved := ""
	switch {
	case t.Local == 0:
		saved = "nothing: no call was answered locally"
	case t.Saved != nil:
		saved = dollars(*t.Saved) + " USD, what the fallback would have cost"
	}
	p.line("saved   %s", withUnknown(saved, t.UnknownSaved))
}

// withUnknown adds for how many calls a figure is unknown. A figure that is unknown
// for all of them is not 0.
func withUnknown(figure string, calls int64) string {
	switch {
	case calls == 0:
		return figure
	case figure == "":
		return "unknown for " + plural(int(calls), "call")
	}
	return figure + "; unknown for " + plural(int(calls), "call")
}

// unnamedGroup is shown for the group whose name is empty.
var unnamedGroup = map[string]string{
	"model": "(no such model)", "backend": "(no backend)", "key": "(no key)", "reason": "(first choice)", "route": "(no route)",
}

func (p *page) groupTable(by string, groups []control.UsageGroup) {
	rows := [][]string{{strings.ToUpper(by), "CALLS", "LOCAL", "IN", "OUT", "PAID USD", "SAVED USD"}}
	for _, g := range groups {
		in, completed := "?", "?"
		if g.Prompt != nil {
			in, completed = abbreviate(*g.Prompt)+p.incompleteMark(g.UnknownTokens), abbreviate(*g.Completion)+p.incompleteMark(g.UnknownTokens)
		} else {
			p.hasUnknown = true
		}
		saved := "-"
		if g.Local > 0 {
			saved = p.amount(g.Saved, g.UnknownSaved)
		}
		rows = append(rows, []string{
			cmp.Or(strings.ReplaceAll(printable(g.Name), "\t", "?"), unnamedGroup[by]), fmt.Sprint(g.Calls), percent(g.Local, g.Calls), in, completed,
			p.amount(g.Cost, g.UnknownCost), saved,
		})
	}
	p.line("")
	p.table(rows, numberTable)
}

func (p *page) reasonTable(u control.Usage) {
	if len(u.Reasons) == 0 {
		p.line("\nNo call for a local model was answered elsewhere.")
		return
	}
	rows := [][]string{{"WHY CALLS LEFT LOCAL", "CALLS", "PAID USD"}}
	for _, g := range byCalls(u.Reasons) {
		rows = append(rows, []string{printable(g.Name), fmt.Sprint(g.Calls), p.amount(g.Cost, g.UnknownCost)})
	}
	p.line("")
	p.table(rows, numberTable)
}

func (p *page) amount(a *control.USD, unknown int64) string {
	if a == nil {
		p.hasUnknown = true
		return "?"
	}
	return dollars(*a) + p.incompleteMark(unknown)
}

// incompleteMark marks a figure that leaves out calls for which it is unknown.
func (p *page) incompleteMark(unknown int64) string {
	if unknown == 0 {
		return ""
	}
	p.hasUnknown = true
	return "+"
}

// byCalls sorts groups by their number of calls, descending.
func byCalls(groups []control.UsageGroup) []control.UsageGroup {
	return slices.SortedStableFunc(slices.Values(groups), func(a, b control.UsageGroup) int { return cmp.Compare(b.Calls, a.Calls) })
}

// largest returns the first n groups; the last one is the sum of all others.
func largest(n int, groups []control.UsageGroup) []control.UsageGroup {
	if len(groups) <= n {
		return groups
	}
	others := control.UsageGroup{Name: fmt.Sprintf("(%d others)", len(groups)-n+1)}
	for _, g := range groups[n-1:] {
		others.Add(g.Sums)
	}
	return append(slices.Clone(groups[:n-1]), others)
}
