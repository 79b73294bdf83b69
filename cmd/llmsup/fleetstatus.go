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
	var problems boxLines
	for _, b := range s.Boxes {
		for _, v := range b.Status.Servers {
			servers = append(servers, []string{v.Name, b.Box, v.State, since(v.Since), fmt.Sprint(v.Restarts), busySlots(v), fmt.Sprint(v.Queued), orDash(v.CtxSize)})
			if about := aboutState(v); about != "" {
				problems.add(b.Box, fmt.Sprintf("%s is %s: %s", v.Name, v.State, about))
			}
		}
		for _, g := range b.Status.GPUs {
			row := gpuRow(g)
			gpus = append(gpus, append([]string{row[0], b.Box}, row[1:]...))
		}
		for _, line := range boxProblems(b.Status) {
			problems.add(b.Box, line)
		}
	}
	for _, rows := range [][][]string{servers, gpus} {
		if len(rows) > 1 {
			p.line("")
			p.table(rows, wordTable)
		}
	}
	for _, line := range slices.Concat(fleetBudgets(s.Boxes), problems.lines()) {
		p.line("")
		p.sentence("  ", "%s", line)
	}
	return p.err
}

// boxLines are lines about boxes. One that is the same for several boxes is printed once.
type boxLines struct {
	texts []string
	boxes map[string][]string // by text
}

func (l *boxLines) add(box, text string) {
	if l.boxes == nil {
		l.boxes = map[string][]string{}
	}
	if l.boxes[text] == nil {
		l.texts = append(l.texts, text)
	}
	l.boxes[text] = append(l.boxes[text], box)
}

func (l *boxLines) lines() (lines []string) {
	for _, text := range l.texts {
		lines = append(lines, strings.Join(l.boxes[text], ", ")+": "+text)
	}
	return lines
}

// fleetBudgets returns a line for each limit: one for a limit of all boxes, from the box that knows
// of the most spending, and one for each that a box has of its own. Why a box gets no more credit is
// in boxProblems.
func fleetBudgets(boxes []control.BoxStatus) (lines []string) {
	var shared []control.Budget
	for _, b := range boxes {
		for _, one := range b.Status.Budgets {
			if one.Fleet == nil {
				lines = append(lines, b.Box+": "+budgetLine(one))
				continue
			}
			limit := *one.Fleet
			limit.Problem = ""
			one.Fleet = &limit
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
func boxProblems(s control.Status) (lines []string) {
	if s.TLS != nil && s.TLS.Problem != "" {
		lines = append(lines, printable(s.TLS.Problem))
	}
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
	for _, b := range s.Budgets {
		if b.Fleet != nil && b.Fleet.Problem != "" {
			lines = append(lines, fmt.Sprintf("%s of the fleet: no more credit can be had: %s", budgetName(b), printable(b.Fleet.Problem)))
		}
	}
	if s.Fleet != nil {
		lines = append(lines, membershipProblems(s.Fleet)...)
	}
	return lines
}

// membershipProblems returns what does not work with a box's place in the fleet.
func membershipProblems(f *control.Fleet) (lines []string) {
	switch {
	case f.Problem == "":
	case f.Joined:
		lines = append(lines, printable(f.Problem))
	default:
		lines = append(lines, "it is not in the fleet, and continues alone: "+printable(f.Problem))
	}
	if line := foreignBoxes(f); line != "" {
		lines = append(lines, strings.TrimPrefix(line, "fleet: "))
	}
	if c := f.Configuration; c != nil {
		if c.Problem != "" {
			lines = append(lines, printable(c.Problem))
		}
		for _, warning := range c.UnknownTargets {
			lines = append(lines, printable(warning))
		}
	}
	return lines
}
