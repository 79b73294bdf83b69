package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func reloadCommand() *cli.Command {
	return &cli.Command{
		Name:      "reload",
		Usage:     "have the daemon read its configuration again, whole or not at all",
		UsageText: "llmsup reload",
		Description: "Reads the file, and the keys, that the daemon was started with, and prints what has changed. Routes, upstreams,\n" +
			"callers' keys and limits hold for the next call, and calls that have begun end as they began. A server whose command\n" +
			"line has changed is replaced when its calls have ended; one that has failed is started again. If anything is wrong,\n" +
			"the old configuration stays, and the exit code is 1. SIGHUP does the same, and says it in the log.",
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
			for _, line := range changes {
				fmt.Println(printable(line))
			}
			return nil
		},
	}
}
