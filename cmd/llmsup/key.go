package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/fileedit"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
)

func keyCommand() *cli.Command {
	return &cli.Command{
		Name:         "key",
		Usage:        "create, list and revoke clients' API keys",
		UsageText:    "llmsup key new NAME\nllmsup key list\nllmsup key revoke NAME",
		OnUsageError: onUsageError,
		Subcommands: []*cli.Command{
			{
				Name:      "new",
				Usage:     "create an API key for a client",
				ArgsUsage: "NAME",
				UsageText: "llmsup key new NAME [--routes \"local,local/*\"] [--free-only] [--operator] [--add] [--config FILE]",
				Description: "Prints the new key on stdout, and instructions on stderr. The key is shown only once. " +
					"llmsup.yaml stores its SHA-256; --add writes that into the file, and llmsup reload applies it, or llmsup fleet push for all boxes of a fleet. " +
					"NAME appears in the log and in the configuration; it is not secret.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "add", Usage: "add the key to the configuration file, which stays unchanged otherwise"},
					&cli.StringFlag{Name: "routes", Usage: "allow only the models of these `ROUTES`, separated by commas", DefaultText: "all"},
					&cli.BoolFlag{Name: "free-only", Usage: "allow only calls that are free"},
					&cli.BoolFlag{Name: "operator", Usage: "allow GET /metrics, which shows what all keys spend; with --routes \"\" nothing else"},
					configFileFlag(),
				},
				OnUsageError: onUsageError,
				Action:       newKey,
			},
			{
				Name:      "list",
				Usage:     "list the keys in the configuration file",
				UsageText: "llmsup key list [--config FILE] [--json]",
				Description: "Lists each key's name, the beginning of its SHA-256, and what it may use. " +
					"The daemon uses the file as it was at its last start or reload.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "json", Usage: "print the list as a JSON object"},
					configFileFlag(),
				},
				OnUsageError: onUsageError,
				Action:       listKeys,
			},
			{
				Name:      "revoke",
				Usage:     "remove a key from the configuration file",
				ArgsUsage: "NAME",
				UsageText: "llmsup key revoke NAME [--config FILE]",
				Description: "Removes the key's entry, with the comments in it and directly above it, and keeps the rest of the file " +
					"as it is. llmsup reload applies it, or llmsup fleet push for all boxes of a fleet.",
				Flags:        []cli.Flag{configFileFlag()},
				OnUsageError: onUsageError,
				Action:       revokeKey,
			},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("there is no command \"key %s\"; there are key new NAME, key list and key revoke NAME", printable(c.Args().First()))
			}
			return usagef("llmsup key needs a command: key new NAME, key list or key revoke NAME")
		},
	}
}

func configFileFlag() cli.Flag {
	return &cli.StringFlag{
		Name: flagConfig, TakesFile: true, EnvVars: []string{"LLMSUP_CONFIG"}, Usage: "the configuration `FILE`", DefaultText: paths.ServiceFile,
	}
}

// configFile returns the file that a key command edits: that of --config, or the
// service's.
func configFile(c *cli.Context, service string) (string, error) {
	if path := c.String(flagConfig); path != "" {
		return path, nil
	}
	f, err := os.Open(service)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", usagef("there is no %s; pass the configuration file with --config FILE", service)
	case err != nil:
		return "", fmt.Errorf("%w; run the command as root, or pass another configuration file with --config FILE", err)
	}
	return service, f.Close()
}

// keyName returns the one argument of a key command.
func keyName(c *cli.Context) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("llmsup key %[1]s takes one name, as in \"llmsup key %[1]s crawler\"", c.Command.Name)
	}
	return c.Args().First(), nil
}

func newKey(c *cli.Context) error {
	name, err := keyName(c)
	switch {
	case err != nil:
		return err
	case !config.ValidClientName(name):
		return usagef("this name is not valid: use at most 100 letters, digits, dots, dashes and underscores, and not a key")
	}
	key, hash := config.NewClientKey()
	entry := config.ClientKey{SHA256: hash, Operator: c.Bool("operator")}
	switch {
	case c.IsSet("routes") && c.String("routes") == "" && entry.Operator:
		entry.Routes = []string{}
	case c.IsSet("routes"):
		entry.Routes = strings.Split(c.String("routes"), ",")
		if !config.ValidRoutes(entry.Routes) {
			return usagef("--routes takes model names and patterns, separated by commas (example: --routes \"local,local/*\")")
		}
	}
	if c.IsSet("free-only") {
		entry.FreeOnly = new(c.Bool("free-only"))
	}
	advice := pasteInstructions(name, entry)
	if c.Bool("add") {
		path, err := configFile(c, paths.ServiceFile)
		if err != nil {
			return err
		}
		if err := fileedit.Add(path, name, entry); err != nil {
			return err
		}
		advice = fmt.Sprintf("Key %s was added to %s. %s\n", name, path, howToApply(path))
	}
	if _, err := fmt.Println(key); err != nil {
		return fmt.Errorf("the key could not be printed and is lost: %w; if it was added to the configuration, remove it with llmsup key revoke %s", err, name)
	}
	_, err = fmt.Fprintf(os.Stderr, `
This is the only time that the key is shown: llmsup stores only its SHA-256.
Clients send it as "Authorization: Bearer KEY" or "x-api-key: KEY"; the SDKs of
OpenAI and Anthropic do. As soon as there is one key, every call needs a key.

%s`, advice)
	return err
}

// pasteInstructions returns the lines of llmsup.yaml that allow a key.
func pasteInstructions(name string, key config.ClientKey) string {
	advice := "To accept it, add these lines to llmsup.yaml (only the second one if the file\n" +
		"has \"keys:\" already), and run \"llmsup reload\":\n\nkeys:\n  " + fileedit.KeyEntry(name, key) + "\n"
	if key.Routes == nil {
		key.Routes = []string{"local", "local/*"}
		advice += "\nTo limit it to local models, which cost nothing, use this as the second line:\n\n  " + fileedit.KeyEntry(name, key) + "\n"
	}
	return advice
}

func revokeKey(c *cli.Context) error {
	name, err := keyName(c)
	if err != nil {
		return err
	}
	path, err := configFile(c, paths.ServiceFile)
	if err != nil {
		return err
	}
	left, err := fileedit.Revoke(path, name)
	if err != nil {
		return err
	}
	owner, err := fileedit.OwnerOf(path)
	switch {
	case err != nil:
		return err
	case owner == fileedit.Fleet:
		fmt.Printf("Key %s was removed from %s. The boxes accept it until \"llmsup fleet push %[2]s\".\n", name, path)
	case owner == fileedit.BoxInFleet:
		fmt.Printf("Key %s was removed from %s. The daemon accepts it until \"llmsup reload\".\n%s\n", name, path, keysOfFleet(path))
	default:
		fmt.Printf("Key %s was removed from %s. The daemon accepts it until \"llmsup reload\".\n", name, path)
	}
	switch {
	case left > 0:
	case owner == fileedit.Fleet:
		fmt.Printf("No key is left. The boxes refuse that push, unless they have insecure_no_auth:\n"+
			"create another key first with \"llmsup key new NAME --add --config %s\".\n", path)
	default:
		fmt.Println("No key is left. The daemon refuses that reload, unless insecure_no_auth is set:\n" +
			"create another key first with \"llmsup key new NAME --add\".")
	}
	return nil
}

// howToApply says which command applies a key that was added to a file.
func howToApply(path string) string {
	owner, err := fileedit.OwnerOf(path)
	switch {
	case err == nil && owner == fileedit.Fleet:
		return fmt.Sprintf("\"llmsup fleet push %s\" sends it to all boxes of the fleet.\nIf no fleet has this file, \"llmsup reload\" applies it.", path)
	case err == nil && owner == fileedit.BoxInFleet:
		return "\"llmsup reload\" applies it.\n" + keysOfFleet(path)
	}
	return "\"llmsup reload\" applies it."
}

// keysOfFleet says that a box's own keys do not count if its fleet has some.
func keysOfFleet(path string) string {
	return fmt.Sprintf("If \"llmsup status\" says that keys are from the fleet, only those count:\n\"llmsup fleet push %s\" sends the keys of this file to all boxes.", path)
}

// keyView is a key as key list --json prints it.
type keyView struct {
	Name     string   `json:"name"`
	SHA256   string   `json:"sha256_prefix"` // its first digits
	Routes   []string `json:"routes"`        // [] = all, null = none
	FreeOnly bool     `json:"free_only"`
	Operator bool     `json:"operator"`
}

// shownHashDigits is how many digits of a hash are shown.
const shownHashDigits = 8

func listKeys(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("llmsup key list takes no argument %q; llmsup key list --help lists its flags", c.Args().First())
	}
	path, err := configFile(c, paths.ServiceFile)
	if err != nil {
		return err
	}
	keys, err := fileedit.List(path)
	if err != nil {
		return err
	}
	views := []keyView{}
	for _, name := range sortedNames(keys) {
		key := keys[name]
		view := keyView{Name: name, SHA256: key.SHA256[:shownHashDigits], Routes: key.Routes, FreeOnly: key.Free(), Operator: key.Operator}
		switch {
		case key.Routes == nil:
			view.Routes = []string{}
		case len(key.Routes) == 0:
			view.Routes = nil
		}
		views = append(views, view)
	}
	if c.Bool("json") {
		return printJSON(os.Stdout, struct {
			File string    `json:"file"`
			Keys []keyView `json:"keys"`
		}{path, views})
	}
	p := newPage(os.Stdout)
	if len(views) == 0 {
		p.sentence("", "%s has no keys; \"llmsup key new NAME --add\" creates one", path)
		return p.err
	}
	rows := [][]string{{"KEY", "SHA-256", "FREE ONLY", "OPERATOR", "ROUTES"}}
	yesNo := map[bool]string{true: "yes", false: "no"}
	for _, v := range views {
		routes := "all"
		switch {
		case v.Routes == nil:
			routes = "none"
		case len(v.Routes) > 0:
			routes = strings.Join(v.Routes, ", ")
		}
		rows = append(rows, []string{v.Name, v.SHA256 + "...", yesNo[v.FreeOnly], yesNo[v.Operator], printable(routes)})
	}
	p.table(rows, textTable)
	return p.err
}
