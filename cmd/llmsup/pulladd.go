package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/fileedit"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// serverAdder adds a server with a downloaded model to a configuration file.
type serverAdder struct {
	name, file string
	daemon     *control.Client
	page       *page
}

// pullTarget returns the configuration that says where models go, and with --add what adds the
// model to it; nil = it is not added.
func pullTarget(c *cli.Context) (*config.Config, *serverAdder, error) {
	name := c.String("add")
	if name == "" {
		if c.IsSet("add") {
			return nil, nil, usagef("--add takes the name of the new server, as in --add qwen2.5-14b")
		}
		cfg, err := readableConfig(c)
		return cfg, nil, err
	}
	file, err := configFile(c, paths.ServiceFile)
	if _, missing := errors.AsType[usageError](err); missing {
		return nil, nil, usagef("%w, which is created if it does not exist", err)
	}
	if err != nil {
		return nil, nil, err
	}
	raw, err := config.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	cfg, err := config.Parse(file, raw)
	if err != nil {
		return nil, nil, err
	}
	applyFlags(c, cfg)
	// Before the download, which may take an hour.
	if err := fileedit.CheckAddServer(file, name); err != nil {
		return nil, nil, err
	}
	return cfg, &serverAdder{name, file, daemonClient(c), newPage(os.Stderr)}, nil
}

// add adds a server with a model and, unless it is "", the model's projector, and has a running
// daemon use it.
func (a *serverAdder) add(ctx context.Context, paths []string) error {
	for i, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		paths[i] = absolute
	}
	server := fileedit.Server{Model: paths[0]}
	if len(paths) > 1 {
		server.Args = llamacpp.WithProjector(paths[1])
	}
	if err := fileedit.AddServer(a.file, a.name, server); err != nil {
		return err
	}
	a.page.sentence("  ", "%s", printable(fmt.Sprintf("server %s was added to %s; its calls name the model local/%s", a.name, a.file, a.name)))
	changes, err := a.daemon.Reload(ctx)
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		a.page.sentence("  ", "%s", printable(fmt.Sprintf("no llmsup runs here; llmsup start --config %s uses it", a.file)))
		return a.page.err
	case err != nil:
		return fmt.Errorf("server %s was added to %s, but the running llmsup did not reload it: %w", a.name, a.file, err)
	}
	for _, line := range changes {
		a.page.sentence("  ", "%s", printable(line))
	}
	if !slices.ContainsFunc(changes, func(line string) bool { return strings.HasPrefix(line, "server "+a.name+": ") }) {
		a.page.sentence("  ", "%s", printable(fmt.Sprintf("the running llmsup uses another configuration file; start it with --config %s to use the server", a.file)))
	}
	return a.page.err
}
