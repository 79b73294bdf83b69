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

const (
	// pageModels and pageDays are how many of them the page has room for.
	pageModels = 15
	pageDays   = 31
)

// printUsage writes usage for people: by what they ask for, or the page that
// answers what one wants to know first.
func printUsage(out io.Writer, u control.Usage, by string, l look) error {
	p := &page{out: out, look: l}
	if u.Incomplete != "" {
		p.sentence("", "Calls may be missing here: %s", printable(u.Incomplete))
		p.line("")
	}
	if u.Total.Calls == 0 {
		p.line("No call was recorded %s. Later calls appear here", spanOf(u))
		p.line("with their tokens, their cost, and what local saved.")
		return p.err
	}
	p.line("Usage %s", spanOf(u))
	p.totals(u.Total)
	switch {
	case by == "day":
		p.groups(by, u.Groups)
		p.days(u.Groups)
	case by != "":
		p.groups(by, byCalls(u.Groups))
	default:
		p.groups("model", atMost(pageModels, byCalls(u.Groups)))
		p.reasons(u)
		p.days(u.Days)
	}
	if p.partly {
		p.line("\n+ and more: unknown for some of the calls.  ? unknown.")
	}
	return p.err
}

// printUsageLine is all of it in a line, for a log.
func printUsageLine(out io.Writer, u control.Usage) error {
	t := u.Total
	p := &page{}
	_, err := fmt.Fprintf(out, "%s %s since %s, %s local, paid %s USD, saved %s USD\n", u.To.Format(time.RFC3339), plural(int(t.Calls), "call"),
		u.From.Format(time.RFC3339), share(t.Local, t.Calls), p.money(t.Cost, t.UnknownCost), p.money(t.Saved, t.UnknownSaved))
	return err
}

func spanOf(u control.Usage) string {
	const layout = "2006-01-02 15:04"
	return "from " + u.From.UTC().Format(layout) + " to " + u.To.UTC().Format(layout) + " UTC"
}

func (p *page) totals(t control.Sums) {
	calls := []string{fmt.Sprint(t.Calls)}
	for _, of := range []struct {
		n    int64
		what string
	}{{t.Failed, "failed"}, {t.Partial, "were cut or cancelled"}, {t.Resumed, "broke and were resumed"}} {
		if of.n > 0 {
			calls = append(calls, fmt.Sprintf("%d %s", of.n, of.what))
		}
	}
	p.line("\ncalls   %s", strings.Join(calls, ", "))
	p.line("local   %s of them were answered by servers of llmsup's own (%d)", share(t.Local, t.Calls), t.Local)
	tokens := ""
	if t.Prompt != nil {
		tokens = fmt.Sprintf("%s in, %s of them cached; %s out", short(*t.Prompt), short(*t.Cached), short(*t.Completion))
	}
	p.line("tokens  %s", unknownFor(tokens, t.UnknownTokens))
	switch {
	case t.Paid == 0:
		p.line("paid    nothing: no call went to a paid backend")
	case t.Cost == nil:
		p.line("paid    %s", unknownFor("", t.UnknownCost))
	default:
		p.line("paid    %s", unknownFor(fmt.Sprintf("%s USD for %s", dollars(*t.Cost), plural(int(t.Paid-t.UnknownCost), "call")), t.UnknownCost))
	}
	saved := ""
	switch {
	case t.Local == 0:
		saved = "nothing: no call was answered locally"
	case t.Saved != nil:
		saved = dollars(*t.Saved) + " USD, what the fallback would have cost"
	}
	p.line("saved   %s", unknownFor(saved, t.UnknownSaved))
}

// unknownFor adds for how many calls a figure is not known. One that is known of
// none is no 0.
func unknownFor(figure string, calls int64) string {
	switch {
	case calls == 0:
		return figure
	case figure == "":
		return "unknown for " + plural(int(calls), "call")
	}
	return figure + "; unknown for " + plural(int(calls), "call")
}

// noName says what it means that a group has none.
var noName = map[string]string{
	"model": "(no such model)", "backend": "(no backend)", "key": "(no key)", "reason": "(first choice)", "route": "(no route)",
}

func (p *page) groups(by string, groups []control.UsageGroup) {
	rows := [][]string{{strings.ToUpper(by), "CALLS", "LOCAL", "IN", "OUT", "PAID USD", "SAVED USD"}}
	for _, g := range groups {
		in, completed := "?", "?"
		if g.Prompt != nil {
			in, completed = short(*g.Prompt)+p.more(g.UnknownTokens), short(*g.Completion)+p.more(g.UnknownTokens)
		} else {
			p.partly = true
		}
		saved := "-"
		if g.Local > 0 {
			saved = p.money(g.Saved, g.UnknownSaved)
		}
		rows = append(rows, []string{
			cmp.Or(strings.ReplaceAll(printable(g.Name), "\t", "?"), noName[by]), fmt.Sprint(g.Calls), share(g.Local, g.Calls), in, completed,
			p.money(g.Cost, g.UnknownCost), saved,
		})
	}
	p.line("")
	p.table(rows, numberTable)
}

func (p *page) reasons(u control.Usage) {
	if len(u.Reasons) == 0 {
		p.line("\nNo call that was meant for local was answered elsewhere.")
		return
	}
	rows := [][]string{{"WHY CALLS LEFT LOCAL", "CALLS", "PAID USD"}}
	for _, g := range byCalls(u.Reasons) {
		rows = append(rows, []string{printable(g.Name), fmt.Sprint(g.Calls), p.money(g.Cost, g.UnknownCost)})
	}
	p.line("")
	p.table(rows, numberTable)
}

func (p *page) money(a *control.USD, unknown int64) string {
	if a == nil {
		p.partly = true
		return "?"
	}
	return dollars(*a) + p.more(unknown)
}

// more marks a figure to which an unknown one would have to be added.
func (p *page) more(unknown int64) string {
	if unknown == 0 {
		return ""
	}
	p.partly = true
	return "+"
}

// byCalls sorts groups, those with most calls first.
func byCalls(groups []control.UsageGroup) []control.UsageGroup {
	return slices.SortedStableFunc(slices.Values(groups), func(a, b control.UsageGroup) int { return cmp.Compare(b.Calls, a.Calls) })
}

// atMost puts together what is more than n groups.
func atMost(n int, groups []control.UsageGroup) []control.UsageGroup {
	if len(groups) <= n {
		return groups
	}
	others := control.UsageGroup{Name: fmt.Sprintf("(%d others)", len(groups)-n+1)}
	for _, g := range groups[n-1:] {
		others.Add(g.Sums)
	}
	return append(slices.Clone(groups[:n-1]), others)
}
