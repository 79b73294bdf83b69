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
		Usage:     "take the GPU for maintenance: calls go elsewhere, and llama-server is stopped",
		ArgsUsage: "[NAME...]",
		UsageText: "llmsup drain [NAME...] [--timeout 10m] [--for 2h] [--keep-server] [--yes] [--json]\nllmsup drain --cancel [NAME...]",
		Description: "Drains the named servers, or all. New calls go to the fallback from the first line on. Running calls may end first,\n" +
			"for up to --timeout; then they continue on the fallback. llama-server is stopped, and its VRAM verified to be free;\n" +
			"once all servers are drained, llmsup closes the driver. Exits 0 once that is done. The servers stay drained, over a\n" +
			"restart of llmsup and of the machine too, until llmsup resume, or for as long as --for says. A second drain joins\n" +
			"the first one. Ctrl-C leaves the drain going; --cancel takes it back.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "timeout", Usage: "let running calls go on for this `TIME`", DefaultText: "10m"},
			&cli.DurationFlag{Name: "for", Usage: "take the servers into use again after this `TIME`", DefaultText: "until llmsup resume"},
			&cli.BoolFlag{Name: "keep-server", Usage: "leave llama-server running, with its VRAM, and without calls"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "drain also where calls have no fallback, and are refused meanwhile"},
			&cli.BoolFlag{Name: "cancel", Usage: "take a drain back, however far it is"},
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
				return show.ended(client.Resume(c.Context, how.Servers, show.step), "the servers are still on their way back")
			}
			err = client.Drain(c.Context, how, show.step)
			var stranded control.StrandedError
			if errors.As(err, &stranded) && isTerminal(os.Stdin) && isTerminal(os.Stderr) && confirmed(c.Context, err.Error()+". Drain all the same? [y/N] ") {
				how.Yes = true
				err = client.Drain(c.Context, how, show.step)
			} else if errors.As(err, &stranded) {
				return fmt.Errorf("nothing was done: %w; pass --yes to drain all the same", err)
			}
			cancel := strings.Join(append([]string{"llmsup drain --cancel"}, how.Servers...), " ")
			return show.ended(err, "the drain goes on; llmsup status shows it, and "+cancel+" takes it back")
		},
	}
}

func drainRequest(c *cli.Context) (how control.DrainRequest, err error) {
	for _, name := range []string{"timeout", "for"} {
		if d := c.Duration(name); d < 0 || name == "for" && c.IsSet(name) && d == 0 {
			return how, usagef("--%s %s is no time to wait; give one such as 90s, 10m or 2h", name, d)
		}
	}
	if c.Bool("cancel") && (c.IsSet("timeout") || c.IsSet("for") || c.IsSet("keep-server") || c.IsSet("yes")) {
		return how, usagef("--cancel takes a drain back, and goes with no other flag but --json")
	}
	how = control.DrainRequest{
		Servers: c.Args().Slice(),
		Timeout: control.Duration(c.Duration("timeout")), For: control.Duration(c.Duration("for")),
		KeepServer: c.Bool("keep-server"), Yes: c.Bool("yes"),
	}
	if c.IsSet("timeout") && how.Timeout == 0 {
		how.Timeout = control.Duration(time.Nanosecond) // at once
	}
	return how, nil
}

// confirmed asks a person. Whatever is not a yes is a no.
func confirmed(ctx context.Context, question string) bool {
	fmt.Fprint(os.Stderr, question)
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // an end without a word is a no
		said <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return false
	case answer := <-said:
		return answer == "y" || answer == "yes"
	}
}
