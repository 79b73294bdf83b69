package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// configFrom puts together what defaults, file, environment and flags say. Its
// errors are the operator's to mend; nothing has been started. socket is the
// address of one that systemd has passed, which counts; "" = none.
func configFrom(c *cli.Context, socket string) (*config.Config, error) {
	cfg := config.Default()
	if path := c.String(flagConfig); path != "" {
		loaded, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		cfg = *loaded
	}
	for flag, field := range map[string]*string{
		flagListen: &cfg.Listen, flagLlamaServer: &cfg.LlamaServer, flagStateDir: &cfg.StateDir,
		flagControl: &cfg.ControlSocket, flagLogFormat: &cfg.LogFormat, flagLogLevel: &cfg.LogLevel,
	} {
		if c.IsSet(flag) {
			*field = c.String(flag)
		}
	}
	if socket != "" {
		cfg.ListenOn(socket, c.IsSet(flagListen))
	}
	if c.IsSet(flagInsecure) {
		cfg.InsecureNoAuth = c.Bool(flagInsecure)
	}
	flags, err := serverFlags(c)
	if err != nil {
		return nil, err
	}
	if err := cfg.Apply(flags); err != nil {
		return nil, usageError{err}
	}
	if info, err := os.Stat(flags.Model); flags.Model != "" && err == nil && info.IsDir() { // no name for a server comes of it
		return nil, fmt.Errorf("model %s: this is a directory: name the .gguf file in it", flags.Model)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Servers) == 0 && cfg.File == "" {
		return &cfg, usageError{errNothingToRun}
	}
	return &cfg, nil
}

// serverFlags is what the command line and the environment say of servers.
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
		if !config.GoodDevices(gpu) {
			return flags, usagef("--gpu %q is no GPU; pass an index or a UUID of nvidia-smi, several with commas between them, or none", gpu)
		}
		flags.GPU = &gpu
	}
	var err error
	if flags.Args, err = llamaArgs(c); err != nil {
		return flags, err
	}
	flags.Model, flags.Demo = c.String(flagModel), c.Bool(flagDemo)
	if flags.Model != "" && flags.Demo { // a flag wins over the environment
		switch onLine := givenOnLine(os.Args); {
		case onLine[flagModel] && !onLine[flagDemo]:
			flags.Demo = false
		case onLine[flagDemo] && !onLine[flagModel]:
			flags.Model = ""
		default:
			return flags, usagef("--model and --demo exclude each other; pass one of them")
		}
	}
	return flags, nil
}

// errNothingToRun comes with a configuration that is good otherwise.
var errNothingToRun = errors.New("there is nothing to run; pass --model FILE.gguf, or --demo for a self-test, or --config llmsup.yaml")

// llamaArgs returns what stands after "--". A word before it is a mistake.
func llamaArgs(c *cli.Context) ([]string, error) {
	args := c.Args().Slice()
	if len(args) == 0 {
		return nil, nil
	}
	if !endsOptions(os.Args, args) {
		return nil, usagef("llmsup %s takes no argument %q; flags of llama-server go after \"--\", a model after --model", c.Command.Name, args[0])
	}
	return args, nil
}

// endsOptions says whether args are all that follows "--" on the command line.
// The flag package swallows the "--" and leaves no other trace of it.
func endsOptions(line, args []string) bool {
	i := len(line) - len(args) - 1
	return i >= 0 && line[i] == "--"
}

// givenOnLine returns the names of the flags on a command line.
func givenOnLine(line []string) map[string]bool {
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
