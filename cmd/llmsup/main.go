// Command llmsup runs llama-server on a GPU machine and serves an OpenAI-compatible
// endpoint, which routes each call to llama-server, or to the cloud when that cannot
// answer. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Exit codes, which are documented in the manual page.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNoDaemon = 3
)

// forceStopTimeout is how long llmsup may take to exit after the second signal.
const forceStopTimeout = 5 * time.Second

func main() { os.Exit(run(os.Args)) }

// run returns the exit code. The first SIGINT or SIGTERM cancels the context, which
// is an orderly end; the second one closes forceStop, after which nothing waits for
// running calls.
func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	forceStop := make(chan struct{})
	go func() {
		<-signals
		cancel()
		<-signals
		close(forceStop)
		// If the stop hangs, for example on a terminal that reads no more output,
		// exit all the same: the kernel kills the children with this process.
		select {
		case <-signals:
		case <-time.After(forceStopTimeout):
		}
		os.Exit(exitFailed)
	}()
	cli.HelpPrinter = printHelp
	app := newApp(forceStop)
	return exitCode(app.RunContext(ctx, flagsFirst(app, args)))
}

// usageError is a mistake on the command line: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode prints an error and returns the exit code for it.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errAlreadyPrinted) {
		printError(err)
	}
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrNoDaemon):
		return exitNoDaemon
	}
	return exitFailed
}

// printError prints an error for people, or for the journal with its priority.
func printError(err error) {
	if isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")) {
		fmt.Fprint(os.Stderr, journalText(err))
		return
	}
	newPage(os.Stderr).sentence("  ", "llmsup: %s", printableLines(err.Error())) // it may quote names that another machine sent
}

// journalText returns an error for the journal, which takes each line as an entry and
// reads its priority from a prefix.
func journalText(err error) string {
	return priorityError + strings.ReplaceAll("llmsup: "+err.Error(), "\n", "\n"+priorityError) + "\n"
}

// errAlreadyPrinted is a failure whose message has been printed.
var errAlreadyPrinted = errors.New("the message has been printed")

func newApp(forceStop <-chan struct{}) *cli.App {
	return &cli.App{
		Name:            "llmsup",
		Usage:           "run llama-server and route OpenAI calls to it first, and to the cloud when it cannot answer",
		Version:         version,
		HideHelpCommand: true,
		// Accepts --generate-bash-completion, which the completion scripts pass.
		EnableBashCompletion: true,
		Commands: inOurForm(
			startCommand(forceStop), statusCommand(), drainCommand(), resumeCommand(), restartCommand(), reloadCommand(), logsCommand(),
			modelsCommand(), pullCommand(), fitCommand(), loadCommand(), unloadCommand(), boxesCommand(), fleetCommand(), openCommand(),
			callsCommand(), routeCommand(), usageCommand(), keyCommand(), checkCommand(), completionCommand(), manCommand(),
		),
		// exitCode prints errors and turns them into exit codes.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unknownCommand(c.App.Commands, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// inOurForm returns commands that take "help" as a name, as in llmsup fit help, and do not
// offer it to a shell, which then offers files. --help is for all of them. It does not show
// "(default: false)" at flags without a value.
func inOurForm(commands ...*cli.Command) []*cli.Command {
	for _, c := range commands {
		c.HideHelpCommand = true
		for _, f := range c.Flags {
			if b, ok := f.(*cli.BoolFlag); ok {
				b.DisableDefaultText = true
			}
		}
		inOurForm(c.Subcommands...)
	}
	return commands
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "llmsup"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName // "llmsup key new"
	}
	if flag, undefined := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); undefined {
		var flags []cli.Flag
		if c.Command != nil {
			flags = c.Command.Flags
		}
		return unknownFlag(name, flags, strings.TrimPrefix(flag, "-"))
	}
	if flag, missing := strings.CutPrefix(err.Error(), "flag needs an argument: -"); missing {
		return usagef("--%s needs a value; see %s --help", strings.TrimPrefix(flag, "-"), name)
	}
	return usagef("%w; see %s --help", err, name)
}

// noArgs rejects arguments for a command that takes none.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("llmsup %s takes no argument %q; llmsup %s --help lists its flags", c.Command.Name, c.Args().First(), c.Command.Name)
	}
	return nil
}

// version is set by the build, with -ldflags "-X main.version=v1.2.3".
var version = "dev"
