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
		UsageText: "llmsup boxes [--fleet] [--json]",
		Description: "The boxes are those that this one has heard of in the last three seconds, and for a day those that have left or are silent " +
			"since then; * is this box. SEEN is the time since a box has last announced itself. FREE are the slots that no call has, TOKENS/S is the " +
			"speed of all calls of a model together in the last ten seconds, and FIRST TOKEN the median of the last 15 minutes. A fleet needs fleet: in llmsup.yaml.",
		Flags: []cli.Flag{
			fleetFlag("show what each says of itself, when it has answered, and which others it does not know"),
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("fleet") {
				return askBoxes(c)
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
	rows := [][]string{{"BOX", "STATE", "GPUS", "SEEN", "VERSION", "CONFIG", "ADDRESS"}}
	models := modelRows{}
	for _, b := range boxes.Boxes {
		name, seen := boxName(b), seconds(b.SeenSeconds).Round(100*time.Millisecond).String()
		if b.This {
			seen = "-"
		}
		rows = append(rows, []string{name, boxState(b, boxes.Fleet), gpuHealths(b.GPUs), seen, b.Version, configVersion(b.ConfigVersion), b.Address})
		models.add(b)
	}
	for _, b := range boxes.Absent {
		rows = append(rows, []string{b.Name, absence(b), "-", since(b.LastSeen), b.Version, "-", b.Address})
	}
	p.table(rows, wordTable)
	models.print(p)
	p.configProblems(boxes.Boxes)
	if line := fleetProblem(boxes.Fleet); line != "" {
		p.line("")
		p.sentence("  ", "%s", line)
	}
	if line := foreignBoxes(boxes.Fleet); line != "" {
		p.line("")
		p.sentence("  ", "%s", line)
	}
	return p.err
}

// boxName marks this box.
func boxName(b control.Box) string {
	if b.This {
		return b.Name + " *"
	}
	return b.Name
}

// modelRows is the table of the boxes' models.
type modelRows [][]string

func (rows *modelRows) add(b control.Box) {
	for _, m := range b.Models {
		*rows = append(*rows, []string{boxName(b), m.Name, m.State, freeSlots(m), fmt.Sprint(m.Queued), rate(m.TokensPerSecond, ""), rate(m.FirstTokenSeconds, "s")})
	}
}

func (rows modelRows) print(p *page) {
	if len(rows) > 0 {
		p.line("")
		p.table(append([][]string{{"BOX", "MODEL", "STATE", "FREE", "QUEUED", "TOKENS/S", "FIRST TOKEN"}}, rows...), wordTable)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// askBoxes shows what all boxes say of themselves.
func askBoxes(c *cli.Context) error {
	all, err := daemonClient(c).FleetBoxes(c.Context)
	if err != nil {
		return err
	}
	defer warnMissing(all.FleetReport, listLack)
	if c.Bool("json") {
		return printJSON(os.Stdout, all)
	}
	return printAskedBoxes(os.Stdout, all)
}

// printAskedBoxes prints what all boxes say of themselves for people.
func printAskedBoxes(out io.Writer, all control.FleetBoxes) error {
	p := newPage(os.Stdout)
	p.out = out
	rows := [][]string{{"BOX", "STATE", "GPUS", "ANSWER", "KNOWS", "VERSION", "CONFIG", "ADDRESS"}}
	models := modelRows{}
	for _, b := range all.Boxes {
		answer := (time.Duration(b.AnswerMS) * time.Millisecond).String()
		rows = append(rows, []string{boxName(b.Box), boxState(b.Box, all.Fleet), gpuHealths(b.GPUs), answer, plural(len(b.Knows), "other"), b.Version, configVersion(b.ConfigVersion), b.Address})
		models.add(b.Box)
	}
	p.table(rows, wordTable)
	models.print(p)
	for _, b := range all.Boxes {
		p.configProblems([]control.Box{b.Box})
	}
	for _, b := range all.Boxes {
		if len(b.Unaware) > 0 {
			p.line("")
			p.sentence("  ", "%s does not know %s: one of them may be cut off from a NATS server", b.Name, strings.Join(b.Unaware, ", "))
		}
	}
	return p.err
}

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
	case b.NoKeys:
		return "no keys yet"
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
	if f.Others == 0 {
		return fmt.Sprintf("fleet: this box is %s, and NATS works; no other box announces itself with this key", f.Box)
	}
	return fmt.Sprintf("fleet: this box is %s, and knows %s; llmsup boxes shows them", f.Box, otherBoxes(f.Others))
}

// foreignBoxes names the boxes in the NATS account that have another fleet's key; "" = none.
func foreignBoxes(f *control.Fleet) string {
	if len(f.Foreign) == 0 {
		return ""
	}
	return fmt.Sprintf("fleet: boxes with another fleet's key: %s; every box of a fleet needs the same key in its key_file, and a second fleet a NATS account of its own",
		printable(strings.Join(f.Foreign, ", ")))
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
