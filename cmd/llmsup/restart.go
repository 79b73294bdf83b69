package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
		UsageText: "llmsup restart [--json]",
		Description: "New calls go to the fallback from now on; the running ones end first, for up to ten minutes. Exits 0 when\n" +
			"every server is ready again, 1 when one did not come back. Ctrl-C leaves the restart going.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
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
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			err = followRestart(c.Context, client, before, show)
			if errors.Is(err, control.ErrNoDaemon) {
				err, show.last = errors.New("llmsup has ended meanwhile; when it runs again the servers have new processes"), control.Step{}
			}
			return show.ended(err, "the restart goes on; llmsup status shows it")
		},
	}
}

// followRestart shows each server's states until all have a new process that is
// ready, or one has come to grief.
func followRestart(ctx context.Context, client *control.Client, before control.Status, show *stepPrinter) error {
	old := map[string]control.Server{}
	shown, counted := map[string]string{}, map[string]string{}
	for _, s := range before.Servers {
		old[s.Name] = s
	}
	for {
		now, err := client.Status(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if now.Drain != nil {
			return errors.New("the servers were drained meanwhile, which takes the restart's place; llmsup resume starts them")
		}
		waiting := 0
		for _, s := range now.Servers {
			if step := restartStep(s); s.Since.After(old[s.Name].Since) && shown[s.Name] != step.Text {
				shown[s.Name] = step.Text
				if err := show.step(step); err != nil {
					return err
				}
			} else if running := plural(s.Busy, "call") + " to end first"; step.Step == control.StepDraining && s.Busy > 0 && counted[s.Name] != running {
				counted[s.Name], step.Step, step.Text = running, control.StepRunning, running
				if err := show.step(step); err != nil {
					return err
				}
			}
			switch {
			case s.LastExit != nil && (old[s.Name].LastExit == nil || s.LastExit.At.After(old[s.Name].LastExit.At)):
				return fmt.Errorf("%s did not come back: %s", s.Name, s.Reason)
			case s.State != "ready" && s.State != "degraded" || s.PID == old[s.Name].PID:
				waiting++
			}
		}
		if waiting == 0 {
			return show.step(control.Step{At: time.Now(), Step: control.StepResumed, Text: "replaced, and in use again"})
		}
		select {
		case <-ctx.Done():
		case <-time.After(progressEvery):
		}
	}
}

// restartStep is a server's state as a step.
func restartStep(s control.Server) control.Step {
	step := control.Step{At: time.Now(), Server: s.Name, Step: control.StepStarting, Text: s.State, Calls: s.Busy}
	if s.Reason != "" {
		step.Text += ": " + s.Reason
	}
	switch s.State {
	case "draining":
		step.Step = control.StepDraining
	case "ready", "degraded":
		step.Step = control.StepReady
	case "failed":
		step.Step = control.StepFailed
	}
	return step
}
