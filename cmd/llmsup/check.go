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

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor/generic"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "validate the configuration and its prerequisites; print one line per problem",
		UsageText: "llmsup check [--config FILE] [flags of start]",
		Description: "Checks llmsup.yaml, the models, llama-server, the API keys, the address, the state directory and the GPUs. " +
			"\"llama-server: computes on\" names its devices and the backends that it loads; of several for CPUs it loads the best one. " +
			"A GPU that the driver lists and llama-server does not use is a warning. The exit code is 1 if there is an error.",
		Flags:        startFlags(),
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			f := &findings{page: newPage(os.Stdout)}
			if err := f.check(c); err != nil {
				return err
			}
			if f.page.err == nil && f.errors > 0 {
				return errAlreadyPrinted
			}
			return f.page.err
		},
	}
}

// findings prints the results of the checks, one per line.
type findings struct {
	page   *page
	errors int
}

func (f *findings) ok(format string, args ...any)   { f.print("ok", format, args...) }
func (f *findings) warn(format string, args ...any) { f.print("warning", format, args...) }
func (f *findings) fail(err error) {
	f.errors++
	f.print("error", "%s", err)
}

func (f *findings) print(kind, format string, args ...any) {
	indent := strings.Repeat(" ", len("warning")+2)
	f.page.sentence(indent, "%-8s %s", kind, printable(fmt.Sprintf(format, args...)))
}

// check returns an error only for a wrong command line.
func (f *findings) check(c *cli.Context) error {
	cfg, err := configFrom(c, "", sources{shared: f.sharedConfig})
	var usage usageError
	switch {
	case errors.Is(err, errNothingToRun): // no error here: the machine can be checked without a model
		f.warn("no model is configured: pass --model FILE.gguf, --demo or --config llmsup.yaml, as for start")
		if _, err := os.Stat(paths.ServiceFile); err == nil {
			f.warn("the service's configuration was not checked: llmsup check --config %s does", paths.ServiceFile)
		}
	case errors.As(err, &usage):
		return err
	case err != nil:
		f.fail(err)
		return nil
	}
	if cfg.File != "" {
		f.ok("%s is valid", cfg.File)
		if len(cfg.Servers) == 0 {
			f.warn("%s has no `servers`: no call is answered on this machine; name a model there", cfg.File)
		}
	}
	headers := f.models(cfg)
	if !f.routes(cfg, headers) {
		return nil
	}
	f.clientKeys(cfg)
	f.certificate(cfg)
	hardware := f.llamaServer(c.Context, cfg)
	f.upstreams(cfg)
	running := f.daemonResources(c.Context, cfg)
	f.fleet(c.Context, cfg, running)
	if len(cfg.Servers) > 0 || cfg.File == "" { // only servers need a GPU
		f.gpus(c.Context, cfg, headers, hardware, running)
	}
	return nil
}

// routes reports whether the models of the servers have unambiguous names.
func (f *findings) routes(cfg *config.Config, headers map[string]*gguf.Header) bool {
	modelName := func(server string) string {
		if h := headers[server]; h != nil {
			return h.Name
		}
		return ""
	}
	if err := cfg.Resolve(modelName); err != nil {
		f.fail(err)
		return false
	}
	if table, err := cfg.Table(); err != nil {
		f.fail(err)
	} else {
		f.ok("models: %s", strings.Join(table.Names(), ", "))
		f.fallbacks(table)
	}
	if err := accounting.CheckKeyRoutes(cfg, nil); err != nil {
		f.fail(err)
	}
	return true
}

func (f *findings) models(cfg *config.Config) map[string]*gguf.Header {
	headers := map[string]*gguf.Header{}
	for _, name := range sortedNames(cfg.Servers) {
		if cfg.Demo && name == cfg.FlagServer {
			f.ok("server %s: start generates the demo model", name)
			continue
		}
		if cfg.Servers[name].IsCommand() {
			f.command(name, cfg.Servers[name])
			continue
		}
		path, _ := modelFile(cfg, cfg.Servers[name])
		if path == "" {
			f.ok("server %s: %s is not downloaded yet; start downloads it into %s", name, cfg.Servers[name].Ref(), cfg.ModelsDir())
			continue
		}
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

// command checks a server that runs another engine than llama-server.
func (f *findings) command(name string, server config.Server) {
	programs := map[string]string{"command": server.Argv[0]}
	if len(server.StopCommand) > 0 {
		programs["stop_command"] = server.StopCommand[0]
	}
	for _, key := range sortedNames(programs) {
		path, err := generic.FindProgram(programs[key])
		if err != nil {
			f.fail(fmt.Errorf("server %s: %s: %w", name, key, err))
			continue
		}
		f.ok("server %s: %s: %s", name, key, path)
	}
	if generic.IsContainer(server.Argv) && len(server.StopCommand) == 0 {
		f.warn("server %s: the command starts a container, which does not end with it; set `stop_command`, for example [%s, stop, NAME]", name, server.Argv[0])
	}
}

// clientKeys checks who can make calls.
func (f *findings) clientKeys(cfg *config.Config) {
	switch {
	case len(cfg.Keys) > 0:
		f.ok("keys: %s", strings.Join(sortedNames(cfg.Keys), ", "))
	case cfg.AwaitsKeys():
		f.warn("keys: none are configured, so this box rejects clients' calls until its fleet defines keys")
	case cfg.Unauthenticated():
		f.warn("keys: none are configured, so everyone who can reach %s can make calls and spend your money at the upstreams", cfg.Listen)
	default:
		f.ok("keys: none are configured, and only this machine can reach %s", cfg.Listen)
	}
	if len(cfg.Keys) == 0 && cfg.AllowedOrigins.AnyPage() {
		f.warn("allowed_origins: every web page that a user of this machine opens can make calls and spend your money at the upstreams, since no keys are configured")
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
		switch key, missing, err := keyfile.Read(u); {
		case err != nil:
			f.fail(fmt.Errorf("upstream %s: %w", name, err))
		case missing != "":
			f.warn("upstream %s: has no API key and cannot be used: %s", name, missing)
		case key == "":
			f.ok("upstream %s: %s, without an API key%s", name, u.BaseURL, billing(u))
		default:
			f.ok("upstream %s: %s, with an API key%s", name, u.BaseURL, billing(u))
		}
		if warning := keyfile.Warning(u); warning != "" {
			f.warn("upstream %s: %s", name, warning)
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

// daemonResources checks what only one daemon can use at a time: the control socket,
// the address and the state directory. If a daemon is running already, it returns its
// status.
func (f *findings) daemonResources(ctx context.Context, cfg *config.Config) (running *control.Status) {
	status, err := control.NewClient(cfg.ControlSocket).Status(ctx)
	if err == nil {
		running = &status
		f.ok("llmsup %s is already running and listens on %s", status.Version, status.Listen)
	} else if err := control.CheckSocket(cfg.ControlSocket); err != nil {
		f.fail(err)
	} else {
		f.ok("control socket: %s is free", cfg.ControlSocket)
	}
	if running != nil && running.Listen == cfg.Listen {
		return running // it uses the state directory, too
	}
	f.address(ctx, cfg.Listen)
	switch err := control.CheckStateDir(cfg.StateDir); {
	case err == nil:
		f.ok("state: %s is writable", cfg.StateDir)
	case running != nil && errors.Is(err, control.ErrLocked):
		f.ok("state: %s is in use by a running llmsup", cfg.StateDir)
	default:
		f.fail(err)
	}
	return running
}

// address checks whether llmsup can listen on an address.
func (f *findings) address(ctx context.Context, address string) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && hasUnit("llmsup.socket"):
		f.warn("listen: another process listens on %s; this is correct if it is systemd, for llmsup.socket", address)
	case err != nil:
		f.fail(fmt.Errorf("listen on %s: %w; pass another address with --listen HOST:PORT", address, err))
	default:
		_ = l.Close() // it was only a test
		f.ok("listen: %s is free", address)
	}
}

// hasUnit reports whether systemd has a unit of that name.
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
