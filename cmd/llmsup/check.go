package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/daemon"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:         "check",
		Usage:        "validate the configuration and its prerequisites; print one line per problem",
		UsageText:    "llmsup check [--config FILE] [flags of start]",
		Flags:        startFlags(),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			f := &findings{page: newPage(os.Stdout)}
			if err := f.check(c); err != nil {
				return err
			}
			if f.page.err == nil && f.errors > 0 {
				return errToldAlready
			}
			return f.page.err
		},
	}
}

// findings prints what check finds, as it finds it.
type findings struct {
	page   *page
	errors int
}

func (f *findings) ok(format string, args ...any)   { f.say("ok", format, args...) }
func (f *findings) warn(format string, args ...any) { f.say("warning", format, args...) }
func (f *findings) fail(err error) {
	f.errors++
	f.say("error", "%s", err)
}

func (f *findings) say(kind, format string, args ...any) {
	hang := strings.Repeat(" ", len("warning")+2)
	f.page.sentence(hang, "%-8s %s", kind, printable(fmt.Sprintf(format, args...)))
}

// check returns an error only for a wrong command line.
func (f *findings) check(c *cli.Context) error {
	cfg, err := configFrom(c, "")
	var usage usageError
	switch {
	case errors.Is(err, errNothingToRun): // which is no mistake here: the surroundings can be checked
		f.warn("no model was named: pass --model FILE.gguf, --demo or --config llmsup.yaml, as to start")
	case errors.As(err, &usage):
		return err
	case err != nil:
		f.fail(err)
		return nil
	}
	if cfg.File != "" {
		f.ok("%s can be read", cfg.File)
	}
	headers := f.models(cfg)
	name := func(server string) string {
		if h := headers[server]; h != nil {
			return h.Name
		}
		return ""
	}
	if err := cfg.Resolve(name); err != nil {
		f.fail(err)
		return nil
	}
	if table, err := cfg.Table(); err != nil {
		f.fail(err)
	} else {
		f.ok("models: %s", strings.Join(table.Names(), ", "))
		f.fallbacks(table)
	}
	if err := daemon.CheckKeyRoutes(cfg, nil); err != nil {
		f.fail(err)
	}
	f.door(cfg)
	f.binary(c.Context, cfg)
	f.upstreams(cfg)
	running := f.surroundings(c.Context, cfg)
	if len(cfg.Servers) > 0 || cfg.File == "" { // without a server nobody needs a GPU
		f.gpus(c.Context, cfg, headers, running)
	}
	return nil
}

func (f *findings) models(cfg *config.Config) map[string]*gguf.Header {
	headers := map[string]*gguf.Header{}
	for _, name := range sortedNames(cfg.Servers) {
		if cfg.Demo && name == cfg.Started {
			f.ok("server %s: the demo model is made at the start", name)
			continue
		}
		path := cfg.Servers[name].Model
		h, err := gguf.Read(path)
		if err != nil {
			f.fail(fmt.Errorf("server %s: %w", name, err))
			continue
		}
		headers[name] = h
		f.ok("server %s: %s, %s %s, %d layers, trained for %d tokens of context, %.1f GiB", name, path, h.Architecture, h.FileType,
			h.Layers, h.Context, float64(h.TensorBytes)/(1<<30))
	}
	return headers
}

func (f *findings) binary(ctx context.Context, cfg *config.Config) {
	if len(cfg.Servers) == 0 && cfg.File != "" {
		f.ok("llama-server: none is needed, since the configuration has no servers")
		return
	}
	path, err := supervisor.FindBinary(cfg.LlamaServer)
	if err != nil {
		f.fail(err)
		return
	}
	version, err := supervisor.Version(ctx, path, cfg.KeyVariables())
	if err != nil {
		f.fail(err)
		return
	}
	f.ok("llama-server: %s, %s", path, version)
}

// door says who may call.
func (f *findings) door(cfg *config.Config) {
	switch {
	case len(cfg.Keys) > 0:
		f.ok("keys: %s", strings.Join(sortedNames(cfg.Keys), ", "))
	case cfg.OpenToAll():
		f.warn("keys: there are none, so everybody who can reach %s can make calls, and spend your money at the upstreams", cfg.Listen)
	default:
		f.ok("keys: there are none, and only this machine can reach %s", cfg.Listen)
	}
}

// fallbacks prints the routes that have more than one fallback.
func (f *findings) fallbacks(table *models.Table) {
	for _, route := range table.Routes() {
		list := route.FallbackList()
		if len(list) < 2 {
			continue
		}
		backends := []string{route.Primary}
		for _, fallback := range list {
			backends = append(backends, fallback.To)
		}
		f.ok("route %s: %s", route.Name, strings.Join(backends, ", then "))
	}
}

func (f *findings) upstreams(cfg *config.Config) {
	for _, name := range sortedNames(cfg.Upstreams) {
		u := cfg.Upstreams[name]
		switch key, missing, err := config.Key(u); {
		case err != nil:
			f.fail(fmt.Errorf("upstream %s: %w", name, err))
		case missing != "":
			f.warn("upstream %s: no key, so no call can go there; %s", name, missing)
		case key == "":
			f.ok("upstream %s: %s, which needs no key%s", name, u.BaseURL, billing(u))
		default:
			f.ok("upstream %s: %s, with a key%s", name, u.BaseURL, billing(u))
		}
		if words := config.KeyFileWarning(u); words != "" {
			f.warn("upstream %s: %s", name, words)
		}
	}
}

// billing names an upstream's billing if the configuration sets it.
func billing(u models.Upstream) string {
	if u.Billing == "" {
		return ""
	}
	return ", billing: " + string(u.Billing)
}

// surroundings looks at the places that one daemon has for itself. A daemon
// that runs already has them, and that is as it should be; it returns its status.
func (f *findings) surroundings(ctx context.Context, cfg *config.Config) (daemon *control.Status) {
	running, err := control.NewClient(cfg.ControlSocket).Status(ctx)
	if err == nil {
		daemon = &running
		f.ok("llmsup %s runs already, and takes calls at %s", running.Version, running.Listen)
	} else if err := control.CheckSocket(cfg.ControlSocket); err != nil {
		f.fail(err)
	} else {
		f.ok("control socket: %s is free", cfg.ControlSocket)
	}
	var lc net.ListenConfig
	if err == nil && running.Listen == cfg.Listen {
		return daemon // and the state directory is in its hands
	}
	if l, err := lc.Listen(ctx, "tcp", cfg.Listen); errors.Is(err, syscall.EADDRINUSE) && hasUnit("llmsup.socket") {
		f.warn("listen: somebody has %s; that is as it should be if llmsup.socket does, for llmsup.service", cfg.Listen)
	} else if err != nil {
		f.fail(fmt.Errorf("listen on %s: %w; pass another address with --listen HOST:PORT", cfg.Listen, err))
	} else {
		_ = l.Close() // it was only tried
		f.ok("listen: %s is free", cfg.Listen)
	}
	switch stateErr := control.CheckStateDir(cfg.StateDir); {
	case stateErr == nil:
		f.ok("state: %s can be written to", cfg.StateDir)
	case err == nil && errors.Is(stateErr, control.ErrHeld):
		f.ok("state: %s is held by a llmsup that runs", cfg.StateDir)
	default:
		f.fail(stateErr)
	}
	return daemon
}

// hasUnit says whether systemd has a unit of a name.
func hasUnit(name string) bool {
	for _, dir := range []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
