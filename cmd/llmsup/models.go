package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
)

func modelsCommand() *cli.Command {
	return &cli.Command{
		Name:      "models",
		Usage:     "show the models of the servers: state, size, VRAM, last use",
		UsageText: "llmsup models [--json]\nllmsup models rm NAME|FILE [--yes]",
		Description: "GPU is where its process is. NEEDS is the VRAM that a model is planned with: estimated from its file or configured, " +
			"or HELD if that is more: the most that its processes have held. IDLE is the time since its last call arrived or ended. LOAD is the time " +
			"from the start of its process to its first answer. CALLS are counted since llmsup started, and WAIT are those that wait for " +
			"the model now. Below are the model files on disk that no server uses, and downloads that are not finished.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the figures as a JSON object"},
			controlFlag(),
		},
		Subcommands:  []*cli.Command{removeModelCommand()},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			client := daemonClient(c)
			models, err := client.Models(c.Context)
			if err != nil {
				return err
			}
			files, err := client.ModelFiles(c.Context)
			if err != nil { // a disk that does not answer hides no server
				files = control.ModelFiles{Files: []control.ModelFile{}, Incomplete: err.Error()}
			}
			if c.Bool("json") {
				return printJSON(os.Stdout, struct {
					control.Models
					OnDisk control.ModelFiles `json:"on_disk"`
				}{control.Models{Models: models}, files})
			}
			if err := printModels(os.Stdout, models); err != nil {
				return err
			}
			return printModelFiles(os.Stdout, files)
		},
	}
}

// printModels prints the models for people.
func printModels(out io.Writer, models []control.Model) error {
	p := newPage(os.Stdout)
	p.out = out
	if len(models) == 0 {
		p.line("there are no servers; --model or servers: in llmsup.yaml adds one")
		return p.err
	}
	rows := [][]string{{"MODEL", "STATE", "SIZE", "GPU", "NEEDS", "HELD", "IDLE", "LOAD", "CALLS", "WAIT"}}
	for _, m := range models {
		rows = append(rows, []string{
			m.Name, m.State, size(m.SizeBytes), gpusOf(m), size(m.VRAMNeedBytes), size(m.VRAMMeasuredBytes), lastUsed(m), loadTime(m),
			fmt.Sprint(m.Calls), fmt.Sprint(m.Waiting),
		})
	}
	p.table(rows, wordTable)
	for _, m := range models {
		if m.PromptCache != "" {
			p.line("")
			p.sentence("  ", "%s's prompt cache: %s", m.Name, printable(m.PromptCache))
		}
		about := aboutState(control.Server{
			Reason: m.Reason, ReadyExpected: m.Ready, LoadProgress: m.LoadProgress, WaitingForModel: m.Waiting, WaitingSince: m.WaitingSince,
		})
		if about != "" {
			p.line("")
			p.sentence("  ", "%s has been %s for %s: %s", m.Name, m.State, since(m.Since), about)
		}
	}
	return p.err
}

func size(bytes *uint64) string {
	if bytes == nil {
		return "-"
	}
	return gpu.Size(*bytes)
}

func gpusOf(m control.Model) string {
	if len(m.GPUs) == 0 {
		return "-"
	}
	list := strings.Fields(strings.Trim(fmt.Sprint(m.GPUs), "[]"))
	return strings.Join(list, ",")
}

func lastUsed(m control.Model) string {
	if m.LastUsed == nil {
		return "-"
	}
	return since(*m.LastUsed)
}

func loadTime(m control.Model) string {
	if m.LoadSeconds == nil {
		return "-"
	}
	return time.Duration(*m.LoadSeconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func loadCommand() *cli.Command {
	return &cli.Command{
		Name:      "load",
		Usage:     "load a model that is loaded on demand",
		ArgsUsage: "NAME",
		UsageText: "llmsup load NAME [--json]",
		Description: "NAME is a server with load: on_demand. Its model is loaded before those that calls wait for; others are unloaded for it if " +
			"necessary. The exit code is 0 once it has answered a test call. Ctrl-C does not stop the load.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			name, err := oneServer(c)
			if err != nil {
				return err
			}
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			return show.finish(daemonClient(c).Load(c.Context, name, show.step), "the load continues; llmsup models shows it")
		},
	}
}

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name:      "unload",
		Usage:     "unload a model that is loaded on demand, to free its VRAM",
		ArgsUsage: "NAME",
		UsageText: "llmsup unload NAME [--now] [--json]",
		Description: "NAME is a server with load: on_demand. Running calls end first, within ten minutes; where every route of the server " +
			"continues streams on a fallback (resume: true), those that run after 30 seconds continue there. The exit code is 0 once " +
			"the VRAM is free. The next call loads the model again; llmsup drain takes it out of use.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "now", Usage: "do not wait for running calls; they continue on the fallback"},
			&cli.BoolFlag{Name: "json", Usage: "print each step as a JSON object"},
			controlFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			name, err := oneServer(c)
			if err != nil {
				return err
			}
			show := newStepPrinter(os.Stdout, c.Bool("json"))
			how := control.UnloadRequest{Server: name, Now: c.Bool("now")}
			return show.finish(daemonClient(c).Unload(c.Context, how, show.step), "the unload continues; llmsup models shows it")
		},
	}
}

// oneServer returns the only argument of a command.
func oneServer(c *cli.Context) (string, error) {
	if c.NArg() != 1 || c.Args().First() == "" {
		return "", usagef("llmsup %s takes the name of one server; llmsup models lists them", c.Command.Name)
	}
	return c.Args().First(), nil
}
