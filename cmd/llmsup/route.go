package main

import (
	"os"

	"github.com/urfave/cli/v2"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name:         "route",
		Usage:        "show which backend would serve a call for a model now, and why",
		ArgsUsage:    "MODEL",
		UsageText:    "llmsup route MODEL",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return usagef("llmsup route takes one model name, as in \"llmsup route local\"")
			}
			a, err := daemonClient(c).Route(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			p := newPage(os.Stdout)
			p.sentence("  ", "%s: %s", printable(a.Model), printable(a.Explanation))
			if p.err == nil && a.Error != "" {
				return errAlreadyPrinted
			}
			return p.err
		},
	}
}
