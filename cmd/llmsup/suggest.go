package main

import (
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
)

// suggest returns which of some names was probably meant by an unknown one; "" = none of
// them. More than two edits apart, or half of the word, is another word.
func suggest(unknown string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if edits := smetrics.WagnerFischer(unknown, name, 1, 1, 1); edits < least && 2*edits < len(unknown) {
			best, least = name, edits
		}
	}
	return best
}

// unknownCommand is the error for a command that does not exist.
func unknownCommand(commands []*cli.Command, name string) error {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	if meant := suggest(name, names); meant != "" {
		return usagef("there is no command %q; did you mean llmsup %s?", name, meant)
	}
	return usagef("there is no command %q; llmsup --help lists them", name)
}

// unknownFlag is the error for a flag that a command does not have.
func unknownFlag(command string, flags []cli.Flag, name string) error {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	if meant := suggest(strings.TrimLeft(name, "-"), names); meant != "" {
		return usagef("%s has no flag --%s; did you mean --%s?", command, name, meant)
	}
	return usagef("%s has no flag --%s; %s --help lists them", command, name, command)
}
