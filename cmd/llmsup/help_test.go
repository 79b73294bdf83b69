package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestHelpFits: no line of a command's help is wider than 80 columns, and continuation
// lines are aligned.
func TestHelpFits(t *testing.T) {
	app := newApp(nil)
	var visit func(line []string, commands []*cli.Command)
	visit = func(line []string, commands []*cli.Command) {
		_, out := runCommand(t, append(line, "--help")...)
		if !strings.Contains(out, "USAGE:\n") {
			t.Errorf("%v: %s", line, out)
		}
		for text := range strings.Lines(out) {
			if n := columns(strings.TrimSuffix(text, "\n")); n > 80 {
				t.Errorf("%v: %d columns: %s", line, n, text)
			}
		}
		for _, c := range commands {
			visit(append(slices.Clip(line), c.Name), c.Subcommands)
		}
	}
	visit(nil, app.Commands)
	want := "   --control-socket SOCKET  the daemon's control SOCKET\n                            (default: "
	if _, out := runCommand(t, "status", "--help"); !strings.Contains(out, want) {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}
