package main

import (
	"flag"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// arguments returns what stands on a command's line besides its flags.
// urfave/cli takes only the flags before the first argument; those that follow
// are set here. help is true where --help is among them.
func arguments(c *cli.Context) (args []string, help bool, err error) {
	rest := c.Args().Slice()
	for len(rest) > 0 {
		if rest[0] == "-" || !strings.HasPrefix(rest[0], "-") {
			args, rest = append(args, rest[0]), rest[1:]
			continue
		}
		set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
		set.SetOutput(io.Discard)
		for _, f := range c.Command.Flags {
			if err := f.Apply(set); err != nil {
				return nil, false, err
			}
		}
		if err := set.Parse(rest); err != nil {
			return nil, false, onUsageError(c, err, false)
		}
		set.Visit(func(f *flag.Flag) {
			help = help || f.Name == "help" || f.Name == "h"
			_ = c.Set(f.Name, f.Value.String()) // the flag is known, and the value was parsed
		})
		rest = set.Args()
	}
	return args, help, nil
}
