package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "show the output of local servers",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup logs [NAME...] [-f] [-n 100]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "follow the output until Ctrl-C"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 100, Usage: "start with the last `N` lines"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if n := c.Int("lines"); n < 0 || n > control.MaxLogLines {
				return usagef("-n %d is not between 0 and %d", n, control.MaxLogLines)
			}
			client := daemonClient(c)
			status, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			q := control.LogsRequest{Servers: c.Args().Slice(), Lines: c.Int("lines"), Follow: c.Bool("follow")}
			several := len(q.Servers) > 1 || len(q.Servers) == 0 && len(status.Servers) > 1
			err = client.Logs(c.Context, q, func(line control.LogLine) error {
				return printLogLine(line, several)
			})
			if errors.Is(err, context.Canceled) {
				return nil // Ctrl-C, the normal end
			}
			return err
		},
	}
}

func printLogLine(line control.LogLine, named bool) error {
	prefix := ""
	if named {
		prefix = line.Server + ": "
	}
	if line.Lost > 0 {
		fmt.Fprintf(os.Stderr, "%s%d lines are missing: they came faster than this command could print them\n", prefix, line.Lost)
	}
	_, err := fmt.Println(prefix + printable(line.Text))
	return err
}
