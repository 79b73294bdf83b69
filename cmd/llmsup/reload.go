package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

func reloadCommand() *cli.Command {
	return &cli.Command{
		Name:      "reload",
		Usage:     "reload the configuration atomically",
		UsageText: "llmsup reload",
		Description: "The daemon reads its configuration file and key files again, and llmsup prints what " +
			"has changed. Routes, upstreams, clients' keys and limits apply to the next call; running calls keep the old ones. " +
			"A server whose command line has changed is replaced when its calls have ended; a failed one is started again. " +
			"If anything is wrong, the old configuration stays active, and the exit code is 1. SIGHUP does the same, and writes " +
			"the result to the log.",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			changes, err := daemonClient(c).Reload(c.Context)
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				fmt.Println("nothing has changed")
			}
			p := newPage(os.Stdout)
			for _, line := range changes {
				p.sentence("  ", "%s", printable(line))
			}
			return p.err
		},
	}
}
