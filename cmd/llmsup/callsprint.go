package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// printCalls prints calls for people.
func printCalls(out io.Writer, calls control.CallsPage) error {
	p := newPage(os.Stdout)
	p.out = out
	if calls.Incomplete != "" {
		p.sentence("", "Calls may be missing here: %s", printable(calls.Incomplete))
		p.line("")
	}
	if len(calls.InFlight)+len(calls.Calls) == 0 {
		p.line("there are no such calls")
		return p.err
	}
	if len(calls.InFlight) > 0 {
		rows := [][]string{{"IN FLIGHT", "BOX", "KEY", "BACKEND", "WHY", "STATE", "OUT", "AGE", "ID"}}
		for _, c := range calls.InFlight {
			rows = append(rows, []string{callModel(c), c.Box, c.Key, c.Backend, c.Reason, callState(c), countOrEmpty(c.Completion), milliseconds(c.MS), c.ID})
		}
		p.table(withoutEmptyColumns(rows), wordTable)
	}
	if len(calls.InFlight) > 0 && len(calls.Calls) > 0 {
		p.line("")
	}
	if len(calls.Calls) > 0 {
		rows := [][]string{{"ENDED", "BOX", "KEY", "BACKEND", "WHY", "STATUS", "OUT", "TIME", "USD", "AGO"}}
		for _, c := range calls.Calls {
			rows = append(rows, []string{
				callModel(c), c.Box, c.Key, c.Backend, c.Reason, callState(c), countOrEmpty(c.Completion), milliseconds(c.MS), p.amount(c.Cost, 0), since(c.Time),
			})
		}
		p.table(withoutEmptyColumns(rows), wordTable)
	}
	if p.hasUnknown {
		p.line("\n? unknown.")
	}
	return p.err
}

// withoutEmptyColumns removes the columns that are empty in all rows but the header, and makes
// names printable.
func withoutEmptyColumns(rows [][]string) (kept [][]string) {
	kept = make([][]string, len(rows))
	for column := range rows[0] {
		if !slices.ContainsFunc(rows[1:], func(row []string) bool { return row[column] != "" }) {
			continue
		}
		for i, row := range rows {
			kept[i] = append(kept[i], strings.ReplaceAll(printable(row[column]), "\t", "?"))
		}
	}
	return kept
}

func callModel(c control.Call) string { return cmp.Or(c.Model, "(no such model)") }

// callState returns how far a call is, or its status.
func callState(c control.Call) string {
	switch {
	case c.Phase == control.PhaseEnded && c.Partial && c.Status < 400:
		return fmt.Sprintf("%d cut", c.Status)
	case c.Phase == control.PhaseEnded:
		return fmt.Sprint(c.Status)
	case c.Place > 0:
		return fmt.Sprintf("%s #%d", strings.ReplaceAll(c.Phase, "waiting_for_", ""), c.Place)
	}
	return strings.ReplaceAll(c.Phase, "_", " ")
}

func countOrEmpty(n *int64) string {
	if n == nil {
		return ""
	}
	return abbreviate(*n)
}

// milliseconds prints a time in at most six characters.
func milliseconds(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case d < time.Second:
		return d.String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// printCallEvent prints that a call has begun or ended, on one line.
func printCallEvent(e control.CallEvent) error {
	if e.Lost > 0 {
		fmt.Fprintf(os.Stderr, "%d lines are missing: calls came faster than this command could print them\n", e.Lost)
	}
	c := e.Call
	parts := []string{time.Now().Format(time.TimeOnly), strings.ReplaceAll(e.Event, "_", " "), c.ID, callModel(c)}
	if c.Key != "" {
		parts = append(parts, "key "+c.Key)
	}
	if c.Backend != "" {
		parts = append(parts, "at "+c.Backend)
	}
	if c.Reason != "" {
		parts = append(parts, "("+c.Reason+")")
	}
	if e.Event == control.CallInFlight {
		parts = append(parts, callState(c))
	}
	if e.Event == control.CallEnded {
		parts = append(parts, "status "+callState(c)+",")
		if c.Completion != nil {
			parts = append(parts, plural(int(*c.Completion), "token")+",")
		}
		parts = append(parts, milliseconds(c.MS)+",", (&page{}).amount(c.Cost, 0), "USD")
	}
	_, err := fmt.Println(printable(strings.Join(parts, " ")))
	return err
}

// printCall prints one call and its attempts.
func printCall(out io.Writer, c control.Call) error {
	p := newPage(os.Stdout)
	p.out = out
	for _, field := range []struct{ name, value string }{
		{"id", c.ID},
		{"time", c.Time.Format(time.RFC3339)},
		{"box", c.Box},
		{"request", c.Request},
		{"key", c.Key},
		{"model", callModel(c)},
		{"route", c.Route},
		{"backend", strings.TrimSuffix(c.Backend+" as "+c.BackendModel, " as ")},
		{"why", c.Reason},
		{"state", callState(c)},
		{"first", msOrEmpty(c.FirstMS)},
		{"waited", msOrEmpty(c.WaitMS)},
		{"in all", milliseconds(c.MS)},
		{"tokens", tokensOf(c)},
		{"cost", p.amount(c.Cost, 0) + " USD"},
	} {
		if field.value != "" {
			p.line("%-8s %s", field.name, printable(field.value))
		}
	}
	if len(c.Attempts) == 0 {
		return p.err
	}
	rows := [][]string{{"ATTEMPT", "STATUS", "TIME", "USD", "REASON"}}
	for _, a := range c.Attempts {
		status, took, cost := "", milliseconds(a.MS), p.amount(a.Cost, 0)
		if a.Status > 0 {
			status = fmt.Sprint(a.Status)
		}
		if a.Skipped {
			status, took, cost = "skipped", "", ""
		}
		rows = append(rows, []string{printable(a.Backend), status, took, cost, printable(strings.TrimPrefix(strings.TrimSuffix(a.Reason+": "+a.Detail, ": "), ": "))})
	}
	p.line("")
	p.table(rows, textTable)
	return p.err
}

func msOrEmpty(ms *int64) string {
	if ms == nil {
		return ""
	}
	return milliseconds(*ms)
}

func tokensOf(c control.Call) string {
	switch {
	case c.Completion == nil:
		return ""
	case c.Prompt == nil:
		return fmt.Sprintf("%d out", *c.Completion)
	}
	return fmt.Sprintf("%d in, %d out", *c.Prompt, *c.Completion)
}
