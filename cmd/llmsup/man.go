package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

func manCommand() *cli.Command {
	return &cli.Command{
		Name:         "man",
		Usage:        "print the manual page",
		UsageText:    "llmsup man",
		Description:  "scripts/install.sh installs it. To read it without that: llmsup man | man -l -",
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			page, err := manPage(c.App)
			if err != nil {
				return fmt.Errorf("generate the manual page: %w", err)
			}
			_, err = os.Stdout.WriteString(page)
			return err
		},
	}
}

// manPage returns urfave/cli's manual page with a correct title, with the descriptions of the
// commands, which urfave/cli leaves out, and with the exit codes and files, which it does not
// know. app is of no other use then.
func manPage(app *cli.App) (string, error) {
	describeInUsage(app.Commands)
	page, err := app.ToManWithSection(1)
	if err != nil {
		return "", err
	}
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".TH ") {
			lines[i] = ".TH LLMSUP 1 \"\" \"llmsup\" \"User Commands\""
			break
		}
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + `
.SH EXIT STATUS
0 success, 1 failure, 2 wrong usage, 3 no daemon answers on the control socket.
.SH FILES
.TP
/etc/llmsup/llmsup.yaml
the configuration of the systemd service
.TP
/etc/llmsup/credentials/openrouter
the key for OpenRouter, which only the service can read
.TP
/var/lib/llmsup
state
.TP
/run/llmsup/control.sock
the control socket
`, nil
}

// describeInUsage adds the description of each command to its usage, in the Markdown from which
// urfave/cli makes the page: text in which nothing is markup, and code of indented lines.
func describeInUsage(commands []*cli.Command) {
	for _, c := range commands {
		describeInUsage(c.Subcommands)
		var text strings.Builder
		for line := range strings.Lines(c.Description) {
			if code, isCode := strings.CutPrefix(line, "  "); isCode {
				text.WriteString("\n    " + code)
			} else {
				text.WriteString(markup.ReplaceAllString(line, `\$0`))
			}
		}
		if c.Description != "" {
			c.Usage += "\n\n" + text.String()
		}
	}
}

// markup matches the characters that Markdown would interpret.
var markup = regexp.MustCompile("[\\\\`*_<>\\[\\]#|&]")
