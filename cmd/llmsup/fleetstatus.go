package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// printFleetStatus prints the status of all boxes for people.
func printFleetStatus(out io.Writer, s control.FleetStatus, d display) error {
	p := &page{out: out, display: d}
	p.sentence("", "%s, %s in flight", boxCount(len(s.Boxes)), plural(s.Inflight, "call"))
	servers := [][]string{{"SERVER", "BOX", "STATE", "FOR", "RESTARTS", "BUSY", "QUEUED", "CONTEXT"}}
	gpus := [][]string{{"GPU", "BOX", "HEALTH", "VRAM USED", "FREE", "BUSY", "TEMP", "POWER"}}
	var problems []string
	for _, b := range s.Boxes {
		for _, v := range b.Status.Servers {
			servers = append(servers, []string{v.Name, b.Box, v.State, since(v.Since), fmt.Sprint(v.Restarts), busySlots(v), fmt.Sprint(v.Queued), orDash(v.CtxSize)})
			if about := aboutState(v); about != "" {
				problems = append(problems, fmt.Sprintf("%s: %s is %s: %s", b.Box, v.Name, v.State, about))
			}
		}
		for _, g := range b.Status.GPUs {
			row := gpuRow(g)
			gpus = append(gpus, append([]string{row[0], b.Box}, row[1:]...))
		}
		problems = append(problems, boxProblems(b)...)
	}
	for _, rows := range [][][]string{servers, gpus} {
		if len(rows) > 1 {
			p.line("")
			p.table(rows, wordTable)
		}
	}
	for _, line := range slices.Concat(fleetBudgets(s.Boxes), problems) {
		p.line("")
		p.sentence("  ", "%s", line)
	}
	return p.err
}

// fleetBudgets returns a line for each limit: one for a limit of all boxes, from the box that knows
// of the most spending, and one for each that a box has of its own.
func fleetBudgets(boxes []control.BoxStatus) (lines []string) {
	var shared []control.Budget
	for _, b := range boxes {
		for _, one := range b.Status.Budgets {
			if one.Fleet == nil {
				lines = append(lines, b.Box+": "+budgetLine(one))
				continue
			}
			i := slices.IndexFunc(shared, func(s control.Budget) bool { return s.Key == one.Key && s.Period == one.Period })
			switch {
			case i < 0:
				shared = append(shared, one)
			case one.Spent > shared[i].Spent:
				shared[i] = one
			}
		}
	}
	for i, b := range shared {
		lines = slices.Insert(lines, i, "the fleet: "+fleetBudgetLine(b, budgetName(b), ""))
	}
	return lines
}

// boxProblems returns what does not work on a box, beside its servers.
func boxProblems(b control.BoxStatus) (lines []string) {
	s := b.Status
	if s.GPUProblem != "" {
		lines = append(lines, "cannot read the GPUs: "+printable(s.GPUProblem))
	}
	for _, g := range s.GPUs {
		if g.Reason != "" {
			lines = append(lines, fmt.Sprintf("GPU %d is %s: %s", g.Index, g.Health, printable(g.Reason)))
		}
	}
	for _, u := range s.Upstreams {
		if !u.Healthy && !u.MissingKey {
			lines = append(lines, fmt.Sprintf("%s is not usable: %s", u.Name, printable(u.Reason)))
		}
	}
	lines = append(lines, ledgerProblems(s.Ledger)...)
	if s.Fleet != nil && s.Fleet.Problem != "" {
		lines = append(lines, strings.TrimPrefix(fleetProblem(s.Fleet), "fleet: "))
	}
	for i, line := range lines {
		lines[i] = b.Box + ": " + line
	}
	return lines
}
