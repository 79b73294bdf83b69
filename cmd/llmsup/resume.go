package main

import (
	"os"

	"github.com/urfave/cli/v2"
)

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "take the servers into use again after a drain",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup resume [NAME...] [--json]",
		Description: "Starts llama-server again for the named servers, or all. Exits 0 when each has answered a completion, 1 when one did\n" +
			"not come back. A drain that is still going on is taken back. Ctrl-C leaves the start going.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			return show.ended(daemonClient(c).Resume(c.Context, c.Args().Slice(), show.step), "the start goes on; llmsup status shows it")
		},
	}
}
