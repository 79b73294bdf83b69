package main

import (
	"os"

	"github.com/urfave/cli/v2"
)

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "take the servers into use again after a drain",
		UsageText: "llmsup resume [--json]",
		Description: "Starts llama-server again and exits 0 when every server has answered a completion, 1 when one did not come back.\n" +
			"A drain that is still going on is taken back. Ctrl-C leaves the start going.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			return show.ended(daemonClient(c).Resume(c.Context, show.step), "the start goes on; llmsup status shows it")
		},
	}
}
