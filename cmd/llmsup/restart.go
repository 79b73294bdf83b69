package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// pollInterval is how often restart reads the status of the daemon.
const pollInterval = 100 * time.Millisecond

func restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "replace the llama-server process once its calls have ended",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup restart [NAME...] [--json]",
		Description: "Restarts the named servers, or all that are not drained. New calls go to their fallback, or wait if they have " +
			"none; running calls get up to ten minutes to end. The exit code is 0 when each server is ready again, and 1 if one " +
			"failed. Ctrl-C does not stop the restart.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			client := daemonClient(c)
			before, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			begun, err := client.Restart(c.Context, c.Args().Slice())
			if err != nil {
				return err
			}
			if len(begun.Servers)+len(begun.Drained) == 0 {
				if c.NArg() > 0 { // it ignored the names
					return fmt.Errorf("the running llmsup %s does not support server names and has restarted all servers; restart llmsup to update it", before.Version)
				}
				return errors.New("there is no server to restart")
			}
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			for _, name := range begun.Drained {
				text := "is drained and was not restarted; llmsup resume " + name + " starts it"
				if err := show.step(control.Step{At: time.Now(), Server: name, Step: control.StepWarning, Text: text}); err != nil {
					return err
				}
			}
			err = followRestart(c.Context, client, before, begun.Servers, show)
			if errors.Is(err, control.ErrNoDaemon) {
				err, show.last = errors.New("llmsup exited during the restart; its next start starts new llama-server processes"), control.Step{}
			}
			return show.finish(err, "the restart continues; llmsup status shows it")
		},
	}
}

// followRestart shows the states of some servers until all have a new process that is
// ready, or one did not come back.
func followRestart(ctx context.Context, client *control.Client, before control.Status, servers []string, show *stepPrinter) error {
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
		waiting := 0
		for _, name := range servers {
			if !slices.ContainsFunc(now.Servers, func(s control.Server) bool { return s.Name == name }) {
				return fmt.Errorf("%s was removed meanwhile: it is no longer in the configuration", name)
			}
		}
		for _, s := range now.Servers {
			if !slices.Contains(servers, s.Name) {
				continue
			}
			if s.Drain != nil {
				return fmt.Errorf("%s was drained meanwhile, which takes the restart's place; llmsup resume %s starts it", s.Name, s.Name)
			}
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
		case <-time.After(pollInterval):
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
