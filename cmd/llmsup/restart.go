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
		Usage:     "replace the processes of servers once their calls end",
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
			if len(begun.Servers)+len(begun.Drained)+len(begun.Unloaded) == 0 {
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
			for _, name := range begun.Unloaded {
				if err := show.step(control.Step{At: time.Now(), Server: name, Step: control.StepReady, Text: "is unloaded, and has no process to replace"}); err != nil {
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

// followRestart prints the states of some servers until each of them has a new process
// that is ready, or one has failed.
func followRestart(ctx context.Context, client *control.Client, before control.Status, servers []string, show *stepPrinter) error {
	follow := map[string]*serverRestart{}
	for _, s := range before.Servers {
		if slices.Contains(servers, s.Name) {
			follow[s.Name] = &serverRestart{before: s}
		}
	}
	for {
		now, err := client.Status(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if done, err := stepRestarts(now, servers, follow, show); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}

// stepRestarts prints what has changed since the last status, and reports whether all
// servers have been restarted.
func stepRestarts(now control.Status, servers []string, follow map[string]*serverRestart, show *stepPrinter) (done bool, err error) {
	done = true
	for _, name := range servers {
		i := slices.IndexFunc(now.Servers, func(s control.Server) bool { return s.Name == name })
		if i < 0 {
			return false, fmt.Errorf("%s was removed from the configuration during the restart", name)
		}
		if follow[name] == nil { // a reload added it after the status before the restart
			follow[name] = &serverRestart{}
		}
		ready, err := follow[name].step(now.Servers[i], show)
		if err != nil {
			return false, err
		}
		done = done && ready
	}
	if done {
		text := "replaced, and in use again"
		if len(servers) == 0 {
			text = "nothing to replace"
		}
		err = show.step(control.Step{At: time.Now(), Step: control.StepResumed, Text: text})
	}
	return done, err
}

// serverRestart is the progress of the restart of one server.
type serverRestart struct {
	before         control.Server // its status before the restart
	state, running string         // the texts that were printed last
}

// step prints what has changed, and reports whether the server has a new process that is
// ready.
func (r *serverRestart) step(s control.Server, show *stepPrinter) (ready bool, err error) {
	if s.Drain != nil {
		return false, fmt.Errorf("%s was drained during the restart; llmsup resume %s starts it", s.Name, s.Name)
	}
	step, running := restartStep(s), plural(s.Busy, "call")+" to end first"
	switch {
	case s.Since.After(r.before.Since) && r.state != step.Text:
		r.state = step.Text
		err = show.step(step)
	case step.Step == control.StepDraining && s.Busy > 0 && r.running != running:
		r.running = running
		step.Step, step.Text = control.StepRunning, running
		err = show.step(step)
	}
	if err != nil {
		return false, err
	}
	if s.LastExit != nil && (r.before.LastExit == nil || s.LastExit.At.After(r.before.LastExit.At)) {
		return false, fmt.Errorf("%s failed: %s", s.Name, s.Reason)
	}
	if s.State == "unloaded" { // meanwhile another model needed its VRAM
		return true, nil
	}
	return (s.State == "ready" || s.State == "degraded") && s.PID != r.before.PID, nil
}

// restartStep returns the state of a server as a step.
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
