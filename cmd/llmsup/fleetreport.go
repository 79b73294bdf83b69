package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// fleetFlag makes a command ask all boxes.
func fleetFlag(what string) cli.Flag {
	return &cli.BoolFlag{Name: "fleet", Usage: "ask all boxes of the fleet, at most 2 s, and " + what + "; boxes that are missing are named on stderr"}
}

// fleetNotes returns what a report of the fleet lacks, one sentence per line. what is the report,
// as in "the sums lack".
func fleetNotes(r control.FleetReport, what string) (lines []string) {
	switch f := r.Fleet; {
	case f == nil:
		return nil
	case !f.Joined:
		return []string{fmt.Sprintf("%s all boxes but this one (%s), which is not in its fleet: %s", what, f.Box, printable(f.Problem))}
	case f.Problem != "":
		lines = append(lines, fleetProblem(f))
	}
	for _, m := range r.Missing {
		lines = append(lines, fmt.Sprintf("%s %s: it %s", what, m.Box, printable(m.Why)))
	}
	if len(r.Answered) == 1 && len(r.Missing) == 0 {
		lines = append(lines, fmt.Sprintf("the fleet has one box, %s", r.Answered[0]))
	}
	return lines
}

// warnMissing prints on stderr what a report of the fleet lacks.
func warnMissing(r control.FleetReport, what string) {
	p := newPage(os.Stderr)
	for _, line := range fleetNotes(r, what) {
		p.sentence("  ", "%s", line)
	}
}

// withMissing returns a function that shows a report, and what it lacks: --watch prints it again
// and again. JSON has it in any case.
func withMissing[T any](c *cli.Context, show func(io.Writer, T) error, of func(T) control.FleetReport, what string) func(io.Writer, T) error {
	if c.Bool("json") {
		return show
	}
	return func(out io.Writer, v T) error {
		if err := show(out, v); err != nil {
			return err
		}
		p := &page{out: out, display: displayOf(os.Stdout)}
		p.missing(of(v), what)
		return p.err
	}
}

// missing prints what a report of the fleet lacks, where it is printed again and again.
func (p *page) missing(r control.FleetReport, what string) {
	for _, line := range fleetNotes(r, what) {
		p.line("")
		p.sentence("  ", "%s", line)
	}
}

// What a report lacks, in its words.
const (
	sumsLack = "the sums lack"
	listLack = "the list lacks"
)

// boxesOf returns which boxes a report of the fleet has, as in " of 3 boxes (a, b and c)"; "" = it
// is of this box alone.
func boxesOf(r control.FleetReport) string {
	const shown = 5
	switch n := len(r.Answered); {
	case r.Fleet == nil:
		return ""
	case n > shown:
		return " of " + boxCount(n)
	default:
		return fmt.Sprintf(" of %s (%s)", boxCount(n), strings.Join(r.Answered, ", "))
	}
}

func boxCount(n int) string {
	if n == 1 {
		return "1 box"
	}
	return fmt.Sprintf("%d boxes", n)
}
