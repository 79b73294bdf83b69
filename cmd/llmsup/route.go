package main

import (
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
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
	return p.err
}
