package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves a command's flags before its other arguments and separates them by
// "--": urfave/cli parses flags only up to the first argument, and users write
// `llmsup drain chat --timeout 5m`. Arguments after a "--" stay as they are.
func flagsFirst(app *cli.App, line []string) []string {
	command, depth := commandOf(app, line)
	if command == nil || line[len(line)-1] == "--"+cli.BashCompletionFlag.Names()[0] {
		return line
	}
	var flags, rest []string
	for args := line[depth:]; len(args) > 0; {
		arg := args[0]
		args = args[1:]
		if name, value, ok := withValue(command, arg); ok {
			arg, args = name, append([]string{value}, args...)
		}
		switch {
		case arg == "--":
			rest = append(rest, args...)
			args = nil
		case arg == "--help" || arg == "-h": // with an argument it would be the help of a subcommand
			return append(slices.Clone(line[:depth]), arg)
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			rest = append(rest, arg)
		case !takesValue(command, arg):
			flags = append(flags, arg)
		case len(args) > 0:
			flags = append(flags, arg, args[0])
			args = args[1:]
		default: // its value is missing: the parser reports it only if nothing follows
			return slices.Concat(line[:depth], flags, []string{arg})
		}
	}
	line = slices.Concat(line[:depth], flags)
	if len(rest) > 0 {
		line = append(append(line, "--"), rest...)
	}
	return line
}

// commandOf returns the command on a command line, as in `llmsup key new`, and the
// index of the first word after it; nil = none.
func commandOf(app *cli.App, line []string) (command *cli.Command, depth int) {
	commands := app.Commands
	for depth = 1; depth < len(line); depth++ {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(line[depth]) })
		if i < 0 {
			break
		}
		command, commands = commands[i], commands[i].Subcommands
	}
	if command != nil && len(commands) > 0 { // the subcommand is missing or unknown
		return nil, depth
	}
	return command, depth
}

// withValue splits a flag of one letter from its value, as in -n100. ok is false if an
// argument is something else, such as -n or -n=100.
func withValue(command *cli.Command, arg string) (name, value string, ok bool) {
	if len(arg) < 3 || arg[0] != '-' || arg[1] == '-' || arg[2] == '=' || hasFlag(command, arg) {
		return "", "", false
	}
	return arg[:2], arg[2:], takesValue(command, arg[:2])
}

func hasFlag(command *cli.Command, arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

// takesValue reports whether the argument after a flag is its value.
func takesValue(command *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), name) {
			_, isBool := flag.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false // "--name=value", --help, or an unknown flag, which the parser reports
}
