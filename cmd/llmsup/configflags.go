package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// sources are where a configuration comes from, besides flags and the environment.
type sources struct {
	text   []byte                                        // of the file; nil = it is read
	shared func(stateDir string) (*config.Shared, error) // what the fleet defines; nil = nothing
}

// configFrom merges the defaults, the configuration file, the environment and the
// flags. Its errors are for the operator to correct. socket is the address of the
// socket that systemd passed, which overrides listen; "" = none.
func configFrom(c *cli.Context, socket string, from sources) (*config.Config, error) {
	cfg := config.Default()
	if path := c.String(flagConfig); path != "" {
		load := func() (*config.Config, error) { return config.Load(path) }
		if from.text != nil {
			load = func() (*config.Config, error) { return config.Parse(path, from.text) }
		}
		loaded, err := load()
		if err != nil {
			return nil, err
		}
		cfg = *loaded
	}
	applyFlags(c, &cfg)
	if socket != "" {
		cfg.ListenOn(socket, c.IsSet(flagListen))
	}
	flags, err := serverFlags(c)
	if err != nil {
		return nil, err
	}
	if err := cfg.Apply(flags); err != nil {
		return nil, usageError{err}
	}
	if info, err := os.Stat(flags.Model); flags.Model != "" && err == nil && info.IsDir() { // the server's name would be empty
		return nil, fmt.Errorf("model %s: this is a directory: name the .gguf file in it", flags.Model)
	}
	if cfg.Fleet.Enabled() {
		shared, err := from.shared(cfg.StateDir)
		if err != nil {
			return nil, err
		}
		cfg.Use(shared)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Servers) == 0 && cfg.File == "" {
		return &cfg, usageError{errNothingToRun}
	}
	return &cfg, nil
}

// applyFlags overrides settings of the file by flags and variables.
func applyFlags(c *cli.Context, cfg *config.Config) {
	for flag, field := range map[string]*string{
		flagListen: &cfg.Listen, flagLlamaServer: &cfg.LlamaServer, flagStateDir: &cfg.StateDir,
		flagControl: &cfg.ControlSocket, flagLogFormat: &cfg.LogFormat, flagLogLevel: &cfg.LogLevel,
	} {
		if c.IsSet(flag) {
			*field = c.String(flag)
		}
	}
	if c.IsSet(flagInsecure) {
		cfg.InsecureNoAuth = c.Bool(flagInsecure)
	}
}

// serverFlags returns the flags and variables that describe a server.
func serverFlags(c *cli.Context) (config.Flags, error) {
	var flags config.Flags
	for flag, field := range map[string]**int{flagCtxSize: &flags.CtxSize, flagNGPULayers: &flags.NGPULayers} {
		if c.IsSet(flag) {
			n := c.Int(flag)
			*field = &n
		}
	}
	if c.IsSet(flagGPU) {
		gpu := c.String(flagGPU)
		if !config.ValidDevices(gpu) {
			return flags, usagef("--gpu %q is not a GPU; pass an index or a UUID of nvidia-smi, several separated by commas, or none", gpu)
		}
		flags.GPU = &gpu
	}
	var err error
	if flags.Args, err = llamaArgs(c); err != nil {
		return flags, err
	}
	flags.Model, flags.Demo = c.String(flagModel), c.Bool(flagDemo)
	if flags.Model != "" && flags.Demo { // a flag wins over the environment
		switch given := flagsOnCommandLine(os.Args); {
		case given[flagModel] && !given[flagDemo]:
			flags.Demo = false
		case given[flagDemo] && !given[flagModel]:
			flags.Model = ""
		default:
			return flags, usagef("--model and --demo exclude each other; pass one of them")
		}
	}
	return flags, nil
}

// errNothingToRun is returned together with a configuration that is valid otherwise.
var errNothingToRun = errors.New("there is nothing to run; pass --model FILE.gguf, or --demo for a self-test, or --config llmsup.yaml")

// llamaArgs returns the arguments after "--". An argument before it is an error.
func llamaArgs(c *cli.Context) ([]string, error) {
	args := c.Args().Slice()
	if len(args) == 0 {
		return nil, nil
	}
	if !followDashDash(os.Args, args) {
		return nil, usagef("llmsup %s takes no argument %q; flags of llama-server go after \"--\", a model after --model", c.Command.Name, args[0])
	}
	return args, nil
}

// followDashDash reports whether args are what follows "--" on the command line. The
// flag package removes the "--", so only the position tells.
func followDashDash(line, args []string) bool {
	i := len(line) - len(args) - 1
	return i >= 0 && line[i] == "--"
}

// flagsOnCommandLine returns the names of the flags on a command line.
func flagsOnCommandLine(line []string) map[string]bool {
	given := map[string]bool{}
	for _, arg := range line {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		given[name] = given[name] || strings.HasPrefix(arg, "-")
	}
	return given
}
