package main

import (
	"fmt"
	"io"
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
	for _, problem := range problems {
		p.line("")
		p.sentence("  ", "%s", problem)
	}
	return p.err
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
		if !u.Healthy {
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
