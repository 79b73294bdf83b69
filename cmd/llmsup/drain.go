package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func drainCommand() *cli.Command {
	return &cli.Command{
		Name:      "drain",
		Usage:     "free the GPU for maintenance: calls go to their fallback, and the servers stop",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup drain [NAME...] [--timeout 10m] [--for 2h] [--keep-server] [--yes] [--json]\nllmsup drain --cancel [NAME...]",
		Description: "Drains the named servers, or all. From the first line of output on, new calls go to their fallback. Running calls " +
			"get --timeout to end; after that they continue on the fallback. Then the servers' processes stop, and llmsup verifies that " +
			"their VRAM is free; once all servers are drained, it also closes the NVIDIA driver. The exit code is 0 once that is " +
			"done. The servers stay drained until llmsup resume or for the time of --for, also if llmsup or the machine " +
			"restarts. A second drain joins the first one. Ctrl-C does not stop the drain; --cancel does.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Usage: "wait at most `TIME` for running calls", DefaultText: "10m"},
			&cli.DurationFlag{Name: "for", Usage: "resume after this `TIME`", DefaultText: "until llmsup resume"},
			&cli.BoolFlag{Name: "keep-server", Usage: "keep the processes and their VRAM, but send them no calls"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "drain even if some routes have no fallback; their calls are rejected with 503"},
			&cli.BoolFlag{Name: "cancel", Usage: "cancel a drain, at any stage"},
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			how, err := drainRequest(c)
			if err != nil {
				return err
			}
			client := daemonClient(c)
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			if c.Bool("cancel") {
				return show.finish(client.Resume(c.Context, how.Servers, show.step), "the servers are still starting")
			}
			err = client.Drain(c.Context, how, show.step)
			var stranded control.NoFallbackError
			if errors.As(err, &stranded) && isTerminal(os.Stdin) && isTerminal(os.Stderr) && confirmed(c.Context, err.Error()+". Drain anyway? [y/N] ") {
				how.Yes = true
				err = client.Drain(c.Context, how, show.step)
			} else if errors.As(err, &stranded) {
				return fmt.Errorf("nothing was done: %w; pass --yes to drain anyway", err)
			}
			cancel := strings.Join(append([]string{"llmsup drain --cancel"}, how.Servers...), " ")
			return show.finish(err, "the drain continues; llmsup status shows it, and "+cancel+" cancels it")
		},
	}
}

func drainRequest(c *cli.Context) (how control.DrainRequest, err error) {
	for _, name := range []string{"timeout", "for"} {
		if d := c.Duration(name); d < 0 || name == "for" && c.IsSet(name) && d == 0 {
			return how, usagef("--%s %s is not a positive duration (examples: 90s, 10m, 2h)", name, d)
		}
	}
	if c.Bool("cancel") && (c.IsSet("timeout") || c.IsSet("for") || c.IsSet("keep-server") || c.IsSet("yes")) {
		return how, usagef("--cancel can only be combined with --json")
	}
	how = control.DrainRequest{
		Servers: c.Args().Slice(),
		Timeout: control.Duration(c.Duration("timeout")), For: control.Duration(c.Duration("for")),
		KeepServer: c.Bool("keep-server"), Yes: c.Bool("yes"),
	}
	if c.IsSet("timeout") && how.Timeout == 0 {
		how.Timeout = control.Duration(time.Nanosecond) // 0 means the default
	}
	return how, nil
}

// confirmed asks the user. Every answer but y and yes means no.
func confirmed(ctx context.Context, question string) bool {
	fmt.Fprint(os.Stderr, question)
	answers := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // the end of the input means no
		answers <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return false
	case answer := <-answers:
		return answer == "y" || answer == "yes"
	}
}
