package main

import (
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name:        "route",
		Usage:       "show which backend would serve a call for a model now, and why",
		ArgsUsage:   "MODEL",
		UsageText:   "llmsup route MODEL [--json]",
		Description: "The exit code is 1 if the call would be rejected.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the decision as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return usagef("llmsup route takes one model name, as in \"llmsup route local\"")
			}
			a, err := daemonClient(c).Route(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			show := printRoute
			if c.Bool("json") {
				show = printJSON
			}
			if err := show(os.Stdout, a); err != nil {
				return err
			}
			if a.Error != "" {
				return errAlreadyPrinted
			}
			return nil
		},
	}
}

// printRoute prints the decision for people.
func printRoute(out io.Writer, a control.RouteAnswer) error {
	p := newPage(os.Stdout)
	p.out = out
	p.sentence("  ", "%s: %s", printable(a.Model), printable(a.Explanation))
	for _, c := range a.Candidates {
		if c.Edits != nil {
			p.sentence("    ", "  %s gets the call with %s", printable(c.Backend), printable(describeEdits(c.Edits)))
		}
	}
	return p.err
}

// describeEdits writes edits as in llmsup.yaml.
func describeEdits(e *models.Edits) string {
	var parts []string
	for _, of := range []struct {
		key    string
		values models.Parameters
	}{{"set", e.Set}, {"force", e.Force}} {
		var values []string
		for _, name := range of.values.Names() {
			values = append(values, name+": "+of.values[name].Text())
		}
		if len(values) > 0 {
			parts = append(parts, of.key+" {"+strings.Join(values, ", ")+"}")
		}
	}
	if len(e.Strip) > 0 {
		parts = append(parts, "strip ["+strings.Join(e.Strip, ", ")+"]")
	}
	return strings.Join(parts, ", ")
}
