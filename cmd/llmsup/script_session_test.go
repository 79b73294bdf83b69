package main

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// sessionStep is a command of a session and what it prints.
type sessionStep struct {
	command string
	output  string // stdout and stderr together, as at a terminal; "[exit N]" at its end is the exit code, if it is not 0
}

// session runs the commands of a file as they would be typed at a terminal, and
// compares what they print: session FILE.
//
// A line "$ COMMAND" is a command for sh, and the lines up to the next one are its
// output. Lines "# ..." after a blank line are comments. In the output "..." stands for any
// text, on a line of its own for any number of lines, and two or more spaces stand for
// two or more spaces.
func session(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: session FILE")
	}
	differences := ""
	for _, step := range parseSession(ts.ReadFile(args[0])) {
		if got := runStep(ts, step.command); !outputPattern(step.output).MatchString(got) {
			differences += fmt.Sprintf("$ %s\n%s\n\n", step.command, got)
		}
	}
	if differences != "" {
		ts.Fatalf("in %s these commands print something else than expected:\n\n%s", args[0], differences)
	}
}

func parseSession(text string) (steps []sessionStep) {
	blank := true
	for line := range strings.Lines(text) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			steps = append(steps, sessionStep{command: strings.TrimSpace(command)})
		case blank && strings.HasPrefix(line, "# ") || len(steps) == 0:
		default:
			steps[len(steps)-1].output += line
		}
		blank = line == "\n"
	}
	for i := range steps {
		steps[i].output = strings.TrimRight(steps[i].output, "\n")
	}
	return steps
}

// runStep runs a command and returns what it prints, and its exit code if it is not 0.
func runStep(ts *testscript.TestScript, command string) string {
	err := ts.Exec("sh", "-c", "exec 2>&1\n"+command)
	output := strings.TrimRight(ts.ReadFile("stdout"), "\n")
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed:
		output = strings.TrimLeft(fmt.Sprintf("%s\n[exit %d]", output, exit.ExitCode()), "\n")
	case err != nil:
		ts.Fatalf("$ %s: %v", command, err)
	}
	return output
}

var severalSpaces = regexp.MustCompile(` {2,}`)

// outputPattern returns a pattern that matches the expected output.
func outputPattern(want string) *regexp.Regexp {
	pattern := `\A`
	for line := range strings.Lines(want) {
		switch line {
		case "...\n":
			pattern += `(?:.*\n)*`
		case "...":
			pattern += `(?s:.*)`
		default:
			line = strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `.*`)
			pattern += severalSpaces.ReplaceAllString(line, ` {2,}`)
		}
	}
	return regexp.MustCompile(pattern + `\z`)
}
