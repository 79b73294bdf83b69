package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

func boxesCommand() *cli.Command {
	return &cli.Command{
		Name:      "boxes",
		Usage:     "show the boxes of the fleet: models, free slots, speed",
		UsageText: "llmsup boxes [--json]",
		Description: "The boxes are those that this one has heard of in the last three seconds, and for a day those that have left or are silent " +
			"since then; * is this box. SEEN is the time since a box has last announced itself. FREE are the slots that no call has, TOKENS/S is the " +
			"speed of all calls of a model together in the last ten seconds, and FIRST TOKEN the median of the last 15 minutes. A fleet needs fleet: in llmsup.yaml.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			boxes, err := daemonClient(c).Boxes(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(os.Stdout, boxes)
			}
			return printBoxes(os.Stdout, boxes)
		},
	}
}

// printBoxes prints the boxes for people.
func printBoxes(out io.Writer, boxes control.Boxes) error {
	p := newPage(os.Stdout)
	p.out = out
	if boxes.Fleet == nil {
		p.line("this box is in no fleet; fleet: in llmsup.yaml joins one")
		return p.err
	}
	rows := [][]string{{"BOX", "STATE", "GPUS", "SEEN", "VERSION", "ADDRESS"}}
	models := [][]string{{"BOX", "MODEL", "STATE", "FREE", "QUEUED", "TOKENS/S", "FIRST TOKEN"}}
	for _, b := range boxes.Boxes {
		name, seen := b.Name, seconds(b.SeenSeconds).Round(100*time.Millisecond).String()
		if b.This {
			name, seen = name+" *", "-"
		}
		rows = append(rows, []string{name, boxState(b, boxes.Fleet), gpuHealths(b.GPUs), seen, b.Version, b.Address})
		for _, m := range b.Models {
			models = append(models, []string{name, m.Name, m.State, freeSlots(m), fmt.Sprint(m.Queued), rate(m.TokensPerSecond, ""), rate(m.FirstTokenSeconds, "s")})
		}
	}
	for _, b := range boxes.Absent {
		rows = append(rows, []string{b.Name, absence(b), "-", duration(seconds(b.SeenSeconds)), b.Version, b.Address})
	}
	p.table(rows, wordTable)
	if len(models) > 1 {
		p.line("")
		p.table(models, wordTable)
	}
	if line := fleetProblem(boxes.Fleet); line != "" {
		p.line("")
		p.sentence("  ", "%s", line)
	}
	return p.err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// absence returns why a box is not in the fleet.
func absence(b control.AbsentBox) string {
	if b.Left {
		return "has left"
	}
	return "silent"
}

// boxState returns how a box takes part in the fleet.
func boxState(b control.Box, own *control.Fleet) string {
	switch {
	case b.This && !own.Joined:
		return "alone"
	case b.Drained:
		return "drained"
	}
	return "in use"
}

// gpuHealths returns the health of a box's GPUs in a word, or by their indexes if it differs.
func gpuHealths(gpus []fleet.GPU) string {
	if len(gpus) == 0 {
		return "-"
	}
	var parts []string
	same := true
	for _, g := range gpus {
		same = same && g.Health == gpus[0].Health
		parts = append(parts, fmt.Sprintf("%d %s", g.Index, g.Health))
	}
	if same {
		return fmt.Sprintf("%d %s", len(gpus), gpus[0].Health)
	}
	return strings.Join(parts, ", ")
}

func freeSlots(m fleet.Model) string {
	if m.Slots == nil || m.Free == nil {
		return "-"
	}
	return fmt.Sprintf("%d of %d", *m.Free, *m.Slots)
}

func rate(figure *float64, unit string) string {
	if figure == nil {
		return "-"
	}
	return fmt.Sprintf("%.3g%s", *figure, unit)
}

// fleetLine returns whether the box is in its fleet, for the status.
func fleetLine(f *control.Fleet) string {
	if line := fleetProblem(f); line != "" {
		return line
	}
	return fmt.Sprintf("fleet: this box is %s, and knows %s; llmsup boxes shows them", f.Box, otherBoxes(f.Others))
}

func otherBoxes(n int) string {
	if n == 1 {
		return "1 other box"
	}
	return fmt.Sprintf("%d other boxes", n)
}

// fleetProblem returns why the box is not in its fleet, or what does not work there; "" = all
// works.
func fleetProblem(f *control.Fleet) string {
	switch {
	case f.Problem == "":
		return ""
	case f.Joined:
		return fmt.Sprintf("fleet: this box is %s, but %s", f.Box, printable(f.Problem))
	}
	return fmt.Sprintf("fleet: this box (%s) is not in it, and continues alone: %s", f.Box, printable(f.Problem))
}
