package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

func routeCommand() *cli.Command {
	return &cli.Command{
		Name:         "route",
		Usage:        "say where a call for a model would go now, and why",
		ArgsUsage:    "MODEL",
		UsageText:    "llmsup route MODEL",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().First() == "" || c.NArg() > 1 {
				return usagef("llmsup route takes one model name, after its flags, as in \"llmsup route local\"")
			}
			a, err := daemonClient(c).Route(c.Context, c.Args().First())
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stdout, "%s: %s\n", printable(a.Model), a.Explanation)
			if a.Error != "" {
				return errToldAlready
			}
			return nil
		},
	}
}
