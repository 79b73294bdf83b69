package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// progressEvery is how often a command that waits for the daemon looks at it.
const progressEvery = 100 * time.Millisecond

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "replace the llama-server process when its calls have ended",
		UsageText: "llmsup restart",
		Description: "New calls go to the fallback from now on; the running ones end first, for up to ten minutes. Exits 0 when\n" +
			"every server is ready again, 1 when one did not come back. Ctrl-C leaves the restart going.",
		Flags:        []cli.Flag{controlFlag()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			client := daemonClient(c)
			before, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			if err := client.Restart(c.Context); err != nil {
				return err
			}
			return followRestart(c.Context, client, before)
		},
	}
}

// followRestart prints each server's states until all have a new process that
// is ready, or one has come to grief.
func followRestart(ctx context.Context, client *control.Client, before control.Status) error {
	old := map[string]control.Server{}
	shown := map[string]string{}
	for _, s := range before.Servers {
		old[s.Name] = s
	}
	for {
		now, err := client.Status(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("stopped watching; the restart goes on, and llmsup status shows it")
		}
		if err != nil {
			return err
		}
		waiting := 0
		for _, s := range now.Servers {
			if s.Since.After(old[s.Name].Since) && shown[s.Name] != s.State {
				shown[s.Name] = s.State
				fmt.Println(stateLine(s))
			}
			switch {
			case s.LastExit != nil && (old[s.Name].LastExit == nil || s.LastExit.At.After(old[s.Name].LastExit.At)):
				return fmt.Errorf("%s did not come back: %s", s.Name, s.Reason)
			case s.State != "ready" && s.State != "degraded" || s.PID == old[s.Name].PID:
				waiting++
			}
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(progressEvery):
		}
	}
}

func stateLine(s control.Server) string {
	line := s.Name + ": " + s.State
	if s.Reason != "" {
		line += ": " + s.Reason
	}
	return printable(line)
}
