package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

func keyCommand() *cli.Command {
	return &cli.Command{
		Name:            "key",
		Usage:           "make an API key for a caller",
		UsageText:       "llmsup key new NAME",
		HideHelpCommand: true,
		OnUsageError:    onUsageError,
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "make a key, and the lines of llmsup.yaml that let it in",
			ArgsUsage: "NAME",
			UsageText: "llmsup key new NAME",
			Description: "Prints a new key, and what to put into llmsup.yaml, which is only its SHA-256. The key is shown this once and kept\n" +
				"nowhere. NAME stands in the log and the configuration; it is not secret.",
			OnUsageError: onUsageError,
			Action:       newKey,
		}},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("there is no command \"key %s\"; llmsup key new NAME makes one", printable(c.Args().First()))
			}
			return usagef("llmsup key needs to know what to do; llmsup key new NAME makes one")
		},
	}
}

func newKey(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("llmsup key new takes one name, that of whoever gets the key, as in \"llmsup key new crawler\"")
	}
	name := c.Args().First()
	if !config.GoodClientName(name) {
		return usagef("this name can't be used: letters, digits, dots, dashes and underscores make one, 100 at most, and it is not a key")
	}
	key, lines, err := config.NewClientKey(name)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	_, err = fmt.Fprintf(os.Stdout, `%s

This is the key of %s. It is shown only now: llmsup keeps its SHA-256 alone. Its owner sends it as an OpenAI or Anthropic
SDK does its API key ("Authorization: Bearer KEY", or "x-api-key: KEY"). To let it in, put these lines into llmsup.yaml,
and run "llmsup reload":

%s
routes: ["local/*"] beside sha256 limits it to local models, and to what costs no money; free_only: true alone to the latter.
`, key, name, lines)
	return err
}
