package main

import (
	"os"

	"github.com/urfave/cli/v2"
)

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "put drained servers back into use",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup resume [NAME...] [--json]",
		Description: "Starts the process of the named servers, or of all. The exit code is 0 when each has answered a test call, and 1 if " +
			"one failed. A drain that is still in progress is cancelled. Ctrl-C does not stop the start.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			return show.finish(daemonClient(c).Resume(c.Context, c.Args().Slice(), show.step), "the start continues; llmsup status shows it")
		},
	}
}
