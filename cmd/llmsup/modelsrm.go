package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/models/hub"
)

func removeModelCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "remove a model that no server uses, or a download that is not finished",
		ArgsUsage: "NAME|FILE",
		UsageText: "llmsup models rm NAME|FILE [--yes]",
		Description: "NAME is that of a file below the folder for models (models in the state directory), with or without .gguf, or what it was " +
			"downloaded as, such as hf:ORG/REPO:Q4_K_M. All parts of a split model are removed. A model that a server of the configuration " +
			"file or of a running llmsup uses stays, and so does everything outside of that folder.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			configFileFlag(),
			controlFlag(),
			stateDirFlag(),
		},
		OnUsageError: onUsageError,
		Action:       removeModel,
	}
}

// stateDirFlag is the flag of the commands that use the models in the daemon's state directory.
func stateDirFlag() cli.Flag {
	return &cli.StringFlag{Name: flagStateDir, TakesFile: true, EnvVars: []string{"LLMSUP_STATE_DIR"}, Usage: "the daemon's state `FOLDER`", DefaultText: paths.StateDir()}
}

func removeModel(c *cli.Context) error {
	if c.NArg() != 1 || c.Args().First() == "" {
		return usagef("llmsup models rm takes one name or file; llmsup models lists them")
	}
	name := c.Args().First()
	cfg, err := configOfModels(c)
	if err != nil {
		return err
	}
	if _, isServer := cfg.Servers[name]; isServer {
		return fmt.Errorf("%s is a server of %s; remove it there and run llmsup reload, then remove its file", name, cfg.File)
	}
	dir := cfg.ModelsDir()
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	model, err := findModel(dir, name)
	if err != nil {
		return err
	}
	if err := checkUnused(c, cfg, model); err != nil {
		return err
	}
	what := fmt.Sprintf("%s (%s)", model.Path, hub.Size(model.Bytes))
	switch n := len(model.Files); {
	case model.Unfinished():
		what = fmt.Sprintf("the unfinished download of %s (%s)", model.Path, hub.Size(model.Bytes))
	case n > 1:
		what = fmt.Sprintf("%s, %d parts (%s)", model.Path, n, hub.Size(model.Bytes))
	}
	if !c.Bool("yes") {
		if !isTerminal(os.Stdin) || !isTerminal(os.Stderr) {
			return fmt.Errorf("nothing was removed: pass --yes to remove %s", printable(what))
		}
		if !confirmed(c.Context, "Remove "+printable(what)+"? [y/N] ") {
			return errors.New("nothing was removed")
		}
	}
	if err := model.Remove(dir); err != nil {
		return err
	}
	_, err = fmt.Printf("removed %s; %s are free\n", printable(what), hub.Size(model.Bytes))
	return err
}

// configOfModels returns the configuration whose servers and state directory count: that of
// --config, else the service's, else the defaults.
func configOfModels(c *cli.Context) (*config.Config, error) {
	cfg := config.Default()
	path, err := configFile(c, paths.ServiceFile)
	var usage usageError
	switch {
	case errors.As(err, &usage): // there is none
	case err != nil:
		return nil, err
	default:
		raw, err := config.ReadFile(path)
		if err != nil {
			return nil, err
		}
		parsed, err := config.Parse(path, raw)
		if err != nil {
			return nil, err
		}
		cfg = *parsed
	}
	applyFlags(c, &cfg)
	return &cfg, nil
}

// readableConfig returns what configOfModels returns, or the defaults if the user may not read the
// service's file: a pull or fit may be the user's own.
func readableConfig(c *cli.Context) (*config.Config, error) {
	cfg, err := configOfModels(c)
	if c.String(flagConfig) == "" && errors.Is(err, fs.ErrPermission) {
		own := config.Default()
		applyFlags(c, &own)
		return &own, nil
	}
	return cfg, err
}

// findModel returns the model that a name means.
func findModel(dir, name string) (downloads.Installed, error) {
	list, err := downloads.List(dir)
	if err != nil {
		return downloads.Installed{}, err
	}
	found := downloads.Named(dir, list, name)
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) == 0 {
		found = list
	}
	var paths []string
	for _, m := range found {
		if relative, err := filepath.Rel(dir, m.Path); err == nil {
			paths = append(paths, printable(relative))
		}
	}
	switch {
	case len(list) == 0:
		return downloads.Installed{}, fmt.Errorf("there is no model in %s; llmsup removes none elsewhere", dir)
	case len(found) == len(list) && len(downloads.Named(dir, list, name)) == 0:
		return downloads.Installed{}, fmt.Errorf("there is no model %s in %s; there are %s", printable(name), dir, strings.Join(paths, ", "))
	}
	return downloads.Installed{}, fmt.Errorf("%s is the name of several models; name one of %s", printable(name), strings.Join(paths, ", "))
}

// checkUnused returns an error if a server of the configuration, or one of a running daemon, uses
// a model.
func checkUnused(c *cli.Context, cfg *config.Config, model downloads.Installed) error {
	for _, name := range sortedNames(cfg.Servers) {
		server := cfg.Servers[name]
		path, _ := modelFile(cfg, server)
		used := slices.Concat([]string{path}, server.Args, server.Argv)
		for _, arg := range slices.Clone(used) { // --flag=FILE
			_, value, _ := strings.Cut(arg, "=")
			used = append(used, value)
		}
		if slices.ContainsFunc(used, model.Is) {
			return fmt.Errorf("server %s of %s uses %s; remove the server there and run llmsup reload first", name, cfg.File, model.Path)
		}
	}
	status, err := daemonClient(c).Status(c.Context)
	if errors.Is(err, control.ErrNoDaemon) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, server := range status.Servers {
		if model.Is(server.Model) {
			return fmt.Errorf("server %s of the running llmsup uses %s; remove the server from its configuration and run llmsup reload first", server.Name, model.Path)
		}
	}
	return nil
}

// printModelFiles prints the files on disk that no server uses.
func printModelFiles(out io.Writer, list control.ModelFiles) error {
	p := newPage(os.Stdout)
	p.out = out
	if len(list.Files) > 0 {
		p.line("")
		rows := [][]string{{"ON DISK", "SIZE", "KIND", "QUANT", "NEEDS"}}
		for _, f := range list.Files {
			kind := f.Kind
			if f.Kind == control.KindUnfinished && f.TotalBytes != nil {
				kind = fmt.Sprintf("unfinished, %d %%", f.SizeBytes*100/max(*f.TotalBytes, 1))
			}
			quant := "-"
			if f.Quantization != "" {
				quant = f.Quantization
			}
			rows = append(rows, []string{printable(f.Name), size(&f.SizeBytes), kind, quant, size(f.NeedBytes)})
		}
		p.table(rows, textTable)
	}
	if list.Incomplete != "" {
		p.line("")
		p.sentence("  ", "the list of files is incomplete: %s", printable(list.Incomplete))
	}
	return p.err
}
