package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleetconfig"
)

func fleetCommand() *cli.Command {
	return &cli.Command{
		Name:            "fleet",
		Usage:           "push, pull and compare the configuration that all boxes of the fleet share",
		UsageText:       "llmsup fleet push [FILE]\nllmsup fleet pull [--version N]\nllmsup fleet diff [FILE]",
		HideHelpCommand: true,
		OnUsageError:    onUsageError,
		Subcommands: []*cli.Command{
			{
				Name:      "push",
				Usage:     "send keys, routes and budget of a file to all boxes",
				ArgsUsage: "[FILE]",
				UsageText: "llmsup fleet push [FILE]\nllmsup fleet push --remove",
				Description: "Makes the sections keys, routes and budget of FILE, which has the form of llmsup.yaml, the configuration of the fleet. " +
					"Other sections of FILE stay where they are, so it may be a box's own llmsup.yaml; without FILE it is " + paths.ServiceFile + ". " +
					"On each box, the fleet's keys and routes replace those of llmsup.yaml, and its budget limits all boxes together. " +
					"The running daemon first checks the file as it would for itself. Each box checks it again, and refuses it, and keeps what it has, " +
					"if it is invalid there. The exit code is 1 if a box refuses it. With --remove the fleet defines nothing any more, and each box uses its own llmsup.yaml.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "remove", Usage: "have each box use its own llmsup.yaml again"},
					controlFlag(),
				},
				OnUsageError: onUsageError,
				Action:       pushFleet,
			},
			{
				Name:        "pull",
				Usage:       "print the fleet's configuration",
				UsageText:   "llmsup fleet pull [--version N]",
				Description: "Prints the fleet's configuration as YAML, for example to edit it and push it again. The fleet keeps its last versions.",
				Flags: []cli.Flag{
					&cli.Uint64Flag{Name: "version", Usage: "print version `N` instead of the newest"},
					controlFlag(),
				},
				OnUsageError: onUsageError,
				Action:       pullFleet,
			},
			{
				Name:      "diff",
				Usage:     "compare the fleet's configuration with a file, or with what this box runs",
				ArgsUsage: "[FILE]",
				UsageText: "llmsup fleet diff [FILE]",
				Description: "Shows what llmsup fleet push FILE would change; without FILE, how what this box runs differs from what the fleet has. " +
					"The exit code is 1 if there is a difference.",
				Flags:        []cli.Flag{controlFlag()},
				OnUsageError: onUsageError,
				Action:       diffFleet,
			},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("there is no command \"fleet %s\"; there are fleet push, fleet pull and fleet diff", printable(c.Args().First()))
			}
			return usagef("llmsup fleet needs a command: fleet push, fleet pull or fleet diff")
		},
	}
}

// sharedFile reads the file that a command names, or the service's. It returns a path at which
// errors of the daemon can be found.
func sharedFile(c *cli.Context) (path, text string, err error) {
	if c.NArg() > 1 {
		return "", "", usagef("llmsup fleet %s takes one file", c.Command.Name)
	}
	if path = c.Args().First(); path == "" {
		path = paths.ServiceFile
	}
	raw, err := config.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("%w", trimAdvice(err))
	}
	return path, string(raw), nil
}

// trimAdvice removes the advice to use --config, which these commands do not have.
func trimAdvice(err error) error {
	text, _, cut := strings.Cut(err.Error(), "; pass another file with --config")
	if !cut {
		return err
	}
	return fmt.Errorf("%s; name another file", text)
}

func pushFleet(c *cli.Context) error {
	request := control.PushRequest{Remove: c.Bool("remove")}
	var err error
	switch {
	case request.Remove && c.NArg() > 0:
		return usagef("--remove takes no file")
	case !request.Remove:
		if request.File, request.Text, err = sharedFile(c); err != nil {
			return err
		}
	}
	client := daemonClient(c)
	pushed, err := client.PushConfig(c.Context, request)
	if err != nil {
		return err
	}
	p := newPage(os.Stdout)
	what := strings.Join(pushed.Sections, ", ")
	switch {
	case pushed.Unchanged:
		p.sentence("", "nothing has changed: this is version %d already, which %s", pushed.Version, pushedBy(pushed.Previous))
		return p.err
	case request.Remove:
		p.sentence("", "version %d is in the fleet: it defines nothing, and each box uses its own llmsup.yaml", pushed.Version)
	default:
		p.sentence("", "version %d is in the fleet: %s", pushed.Version, what)
	}
	for _, warning := range pushed.Warnings {
		p.sentence("  ", "warning: %s", printable(warning))
	}
	refused := awaitBoxes(c, client, pushed, p)
	if p.err == nil && refused {
		return errAlreadyPrinted
	}
	return p.err
}

// boxesTimeout is how long a push waits for the boxes to announce the version that they run.
const boxesTimeout = 5 * time.Second

// awaitBoxes prints what each box does with a version, and reports whether one refuses it.
func awaitBoxes(c *cli.Context, client *control.Client, pushed control.PushedConfig, p *page) (refused bool) {
	deadline := time.Now().Add(boxesTimeout)
	for {
		boxes, err := client.Boxes(c.Context)
		if err != nil {
			return false // what was pushed is printed
		}
		waiting := slices.ContainsFunc(boxes.Boxes, func(b control.Box) bool { return max(b.ConfigVersion, b.ConfigRefused) < pushed.Version })
		if waiting && time.Now().Before(deadline) && c.Err() == nil {
			select {
			case <-c.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		for _, b := range boxes.Boxes {
			switch {
			case b.ConfigVersion >= pushed.Version:
				p.sentence("  ", "  %s uses it", b.Name)
			case b.ConfigRefused >= pushed.Version:
				refused = true
				p.sentence("    ", "  %s: %s", b.Name, printable(b.ConfigProblem))
			default:
				p.sentence("    ", "  %s has not announced it within %s; llmsup boxes shows when it does", b.Name, boxesTimeout)
			}
		}
		return refused
	}
}

// pushedBy says who pushed a document, and when.
func pushedBy(d *control.FleetDocument) string {
	return fmt.Sprintf("%s pushed %s", printable(d.PushedBy), d.PushedAt.Local().Format("2006-01-02 15:04:05"))
}

func pullFleet(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	pulled, err := daemonClient(c).PullConfig(c.Context, c.Uint64("version"))
	if err != nil {
		return err
	}
	d := pulled.Fleet
	switch {
	case d != nil:
	case pulled.Problem == "" && pulled.Running != nil: // of another fleet, or from before a change of the key
		d = pulled.Running
		fmt.Fprintf(os.Stderr, "This is what this box uses, since the fleet does not have it; llmsup fleet push FILE gives it to the fleet.\n")
	case pulled.Problem != "":
		d = pulled.Running
		fmt.Fprintf(os.Stderr, "This is what this box uses, since the fleet's cannot be read: %s.\n", pulled.Problem)
	}
	if d == nil {
		return fmt.Errorf("the fleet has no configuration yet; llmsup fleet push FILE makes one")
	}
	fmt.Printf("# version %d, which %s\n%s", d.Version, pushedBy(d), d.Text)
	return nil
}

func diffFleet(c *cli.Context) error {
	var name, text string
	if c.NArg() > 0 {
		path, raw, err := sharedFile(c)
		if err != nil {
			return err
		}
		if _, err := config.ParseShared(path, []byte(raw), 0); err != nil {
			return err
		}
		if text, err = fleetconfig.Extract(path, []byte(raw)); err != nil {
			return err
		}
		name = path
	}
	pulled, err := daemonClient(c).PullConfig(c.Context, 0)
	if err != nil {
		return err
	}
	if pulled.Problem != "" {
		return fmt.Errorf("%s", pulled.Problem)
	}
	old := control.FleetDocument{}
	oldName := "the fleet's configuration (none)"
	if pulled.Fleet != nil {
		old, oldName = *pulled.Fleet, fmt.Sprintf("the fleet's version %d", pulled.Fleet.Version)
	}
	if name == "" {
		name = pulled.Box + " (none)"
		if pulled.Running != nil {
			name, text = fmt.Sprintf("%s (version %d)", pulled.Box, pulled.Running.Version), pulled.Running.Text
		}
	}
	changes := diff.Diff(oldName, []byte(old.Text), name, []byte(text))
	if changes == nil {
		fmt.Printf("there is no difference between %s and %s\n", oldName, name)
		return nil
	}
	_, header, _ := strings.Cut(string(changes), "\n") // without the line "diff A B"
	for line := range strings.Lines(header) {
		fmt.Println(printable(strings.TrimSuffix(line, "\n")))
	}
	return errAlreadyPrinted
}
