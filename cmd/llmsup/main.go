// Command llmsup turns a GPU box into a dependable, free-first,
// OpenAI-compatible endpoint: it runs llama-server, and routes each call to it
// or, when it can't answer, to the cloud. See README.md.
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

// Exit codes of the contract.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNoDaemon = 3
)

// hurryTimeout is how long llmsup may take to end when it was told twice.
const hurryTimeout = 5 * time.Second

func main() { os.Exit(run(os.Args)) }

// run is main with a result. The first SIGINT or SIGTERM ends the context; the
// second one closes the channel in it (see hurryFrom): nothing is waited for
// any more.
func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	hurry := make(chan struct{})
	go func() {
		<-signals
		cancel()
		<-signals
		close(hurry)
		// An end that hangs, on a terminal that takes no more output say, must
		// not need a kill -9. The kernel ends the children with this process.
		select {
		case <-signals:
		case <-time.After(hurryTimeout):
		}
		os.Exit(exitFailed)
	}()
	cli.HelpPrinter = printHelp
	app := newApp(hurry)
	return exitCode(app.RunContext(ctx, flagsFirst(app, args)))
}

// usageError is a mistake on the command line: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode prints an error as the one sentence that it is.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errToldAlready) {
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

// printError prints an error for a person, or for the journal with its priority.
func printError(err error) {
	if isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")) {
		fmt.Fprint(os.Stderr, journalText(err))
		return
	}
	newPage(os.Stderr).sentence("  ", "llmsup: %s", err)
}

// journalText is an error with the priority of each line, which is an entry of its
// own.
func journalText(err error) string {
	return priorityError + strings.ReplaceAll("llmsup: "+err.Error(), "\n", "\n"+priorityError) + "\n"
}

// errToldAlready is a failure whose words have been printed.
var errToldAlready = errors.New("told already")

func newApp(hurry <-chan struct{}) *cli.App {
	return &cli.App{
		Name:            "llmsup",
		Usage:           "run llama-server and route OpenAI calls to it first, to the cloud when it can't answer",
		Version:         version,
		HideHelpCommand: true,
		Suggest:         true,
		// --generate-bash-completion, which the shells ask with.
		EnableBashCompletion: true,
		Commands:             []*cli.Command{startCommand(hurry), statusCommand(), drainCommand(), resumeCommand(), restartCommand(), reloadCommand(), logsCommand(), routeCommand(), usageCommand(), keyCommand(), checkCommand(), completionCommand(), manCommand()},
		// Errors are printed and turned into exit codes in one place: exitCode.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("there is no command %q; llmsup --help lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "llmsup"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName // "llmsup key new"
	}
	if flag, undefined := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); undefined {
		return usagef("%s has no flag --%s; %s --help lists them", name, strings.TrimPrefix(flag, "-"), name)
	}
	if flag, missing := strings.CutPrefix(err.Error(), "flag needs an argument: -"); missing {
		return usagef("--%s needs a value; %s --help says which", strings.TrimPrefix(flag, "-"), name)
	}
	return usagef("%w; %s --help says how", err, name)
}

// noArgs refuses words that a command does not take.
func noArgs(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("llmsup %s takes no argument %q; llmsup %s --help lists its flags", c.Command.Name, c.Args().First(), c.Command.Name)
	}
	return nil
}

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"
