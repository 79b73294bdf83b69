package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// takeNames are the commands whose flags may stand after names, as in
// `llmsup drain chat --timeout 5m`. urfave/cli parses flags up to the first name only.
var takeNames = []string{"drain", "resume", "restart", "logs"}

// flagsFirst moves the flags of such a command before its names, which then stand
// after "--". What the user has put after "--" is left alone.
func flagsFirst(app *cli.App, line []string) []string {
	if len(line) < 2 || line[len(line)-1] == "--"+cli.BashCompletionFlag.Names()[0] {
		return line
	}
	command := app.Command(line[1])
	if command == nil || !slices.Contains(takeNames, command.Name) {
		return line
	}
	var flags, names []string
	for args := line[2:]; len(args) > 0; {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			names = append(names, args...)
			args = nil
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			names = append(names, arg)
		case !takesValue(command, arg):
			flags = append(flags, arg)
		case len(args) > 0:
			flags = append(flags, arg, args[0])
			args = args[1:]
		default: // its value is missing, which the parser reports where nothing follows
			return slices.Concat(line[:2], flags, []string{arg})
		}
	}
	line = slices.Concat(line[:2], flags)
	if len(names) > 0 {
		line = append(append(line, "--"), names...)
	}
	return line
}

// takesValue says whether the argument after a flag is its value.
func takesValue(command *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), name) {
			_, isSwitch := flag.(*cli.BoolFlag)
			return !isSwitch
		}
	}
	return false // "--name=value", --help, or an unknown flag, which the parser reports
}
