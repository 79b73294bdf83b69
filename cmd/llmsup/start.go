package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/daemon"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor"
)

func startCommand(hurry <-chan struct{}) *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "run the daemon in the foreground",
		ArgsUsage: "[-- llama-server flags]",
		UsageText: "llmsup start --model FILE.gguf [flags] [-- llama-server flags]\nllmsup start --demo\nllmsup start --config llmsup.yaml",
		Description: "Runs llama-server on a model and serves an OpenAI-compatible endpoint that sends calls for\n" +
			"\"local/...\" to it, to OpenRouter when it can't answer, and premium names straight to OpenRouter.\n" +
			"The key for OpenRouter is read from $OPENROUTER_API_KEY. What follows \"--\" goes to llama-server.\n" +
			"Ctrl-C lets running calls end first; a second one does not.",
		Flags:        startFlags(),
		OnUsageError: onUsageError,
		Action:       func(c *cli.Context) error { return start(c, hurry) },
	}
}

func start(c *cli.Context, hurry <-chan struct{}) error {
	cfg, err := configFrom(c)
	if err != nil {
		return err
	}
	// Whoever reads the log may go away (llmsup start 2>&1 | head); the daemon
	// does not.
	signal.Ignore(syscall.SIGPIPE)
	log, flush, err := newLogger(cfg, os.Stderr)
	if err != nil {
		return err
	}
	defer flush()
	binary, headers, err := prepare(cfg)
	if err != nil {
		return err
	}
	for _, h := range headers {
		if h.err != nil {
			log.Warn().Str("server", h.server).Msg(h.err.Error())
		}
	}
	d, err := daemon.Open(cfg, binary, version, log, hurry)
	if err != nil {
		return err
	}
	return d.Run(c.Context)
}

// configFrom puts together what defaults, file, environment and flags say. Its
// errors are the operator's to mend; nothing has been started.
func configFrom(c *cli.Context) (*config.Config, error) {
	cfg := config.Default()
	if path := c.String(flagConfig); path != "" {
		loaded, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		cfg = *loaded
	}
	for flag, field := range map[string]*string{
		flagListen: &cfg.Listen, flagLlamaServer: &cfg.LlamaServer, flagGPU: &cfg.GPU, flagStateDir: &cfg.StateDir,
		flagControl: &cfg.ControlSocket, flagLogFormat: &cfg.LogFormat, flagLogLevel: &cfg.LogLevel,
	} {
		if c.IsSet(flag) {
			*field = c.String(flag)
		}
	}
	var overrides config.Flags
	if c.IsSet(flagCtxSize) {
		n := c.Int(flagCtxSize)
		overrides.CtxSize = &n
	}
	if c.IsSet(flagNGPULayers) {
		n := c.Int(flagNGPULayers)
		overrides.NGPULayers = &n
	}
	args, err := llamaArgs(c)
	if err != nil {
		return nil, err
	}
	overrides.Args = args
	model, wantsDemo := c.String(flagModel), c.Bool(flagDemo)
	if model != "" && wantsDemo { // a flag wins over the environment
		switch onLine := givenOnLine(os.Args); {
		case onLine[flagModel] && !onLine[flagDemo]:
			wantsDemo = false
		case onLine[flagDemo] && !onLine[flagModel]:
			model = ""
		}
	}
	switch {
	case model != "" && wantsDemo:
		return nil, usagef("--model and --demo exclude each other; pass one of them")
	case wantsDemo:
		overrides.Demo = true
	case model != "":
		overrides.Model = model
	}
	if err := cfg.Apply(overrides); err != nil {
		return nil, usageError{err}
	}
	if !goodGPU.MatchString(cfg.GPU) {
		return nil, usagef("--gpu %q is no GPU; pass an index or a UUID of nvidia-smi, several with commas between them, or none", cfg.GPU)
	}
	if info, err := os.Stat(model); model != "" && err == nil && info.IsDir() {
		return nil, fmt.Errorf("model %s: this is a directory: name the .gguf file in it", model)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Servers) == 0 && cfg.File == "" {
		return &cfg, usageError{errNothingToRun}
	}
	return &cfg, nil
}

// errNothingToRun comes with a configuration that is good otherwise.
var errNothingToRun = errors.New("there is nothing to run; pass --model FILE.gguf, or --demo for a self-test, or --config llmsup.yaml")

// goodGPU matches what CUDA_VISIBLE_DEVICES takes, and none. It takes anything
// else for none, and a model would run on the CPU without a word.
var goodGPU = regexp.MustCompile(`^$|^none$|^(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+)(,(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+))*$`)

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

// header is what a server's GGUF says of itself.
type header struct {
	server string
	*gguf.Header
	err error // a damaged file: llama-server will say so too
}

// prepare looks for all that start needs and can be missing, and makes the demo
// model. Its errors keep the daemon from starting; a model that is there and
// damaged does not, since calls can still go to the cloud.
func prepare(cfg *config.Config) (binary string, headers []header, err error) {
	if cfg.Demo {
		if err := makeDemo(cfg); err != nil {
			return "", nil, err
		}
	}
	names := map[string]string{}
	for name, server := range cfg.Servers {
		h := header{server: name}
		if h.Header, h.err = gguf.Read(server.Model); h.err != nil {
			if fatal := unusable(server.Model, h.err); fatal != nil {
				return "", nil, fmt.Errorf("server %s: %w", name, fatal)
			}
		} else {
			names[name] = h.Name
			server.Model = h.Files[0] // of a split model, llama-server wants the first part
			cfg.Servers[name] = server
		}
		headers = append(headers, h)
	}
	if err := cfg.Resolve(func(server string) string { return names[server] }); err != nil {
		return "", nil, err
	}
	if len(cfg.Servers) > 0 {
		if binary, err = supervisor.FindBinary(cfg.LlamaServer); err != nil {
			return "", nil, err
		}
	}
	return binary, headers, nil
}

// unusable says whether a model's path leads to no model at all.
func unusable(path string, err error) error {
	for _, hopeless := range []error{gguf.ErrNotGGUF, fs.ErrNotExist, fs.ErrPermission} {
		if errors.Is(err, hopeless) {
			return err
		}
	}
	if info, statErr := os.Stat(path); statErr != nil || !info.Mode().IsRegular() {
		return err
	}
	return nil
}

func makeDemo(cfg *config.Config) error {
	err := control.MakeDir(cfg.StateDir)
	if err == nil {
		_, err = demo.Ensure(cfg.DemoDir())
	}
	if err != nil {
		return fmt.Errorf("make the demo model: %w; pass another folder with --state-dir", err)
	}
	return nil
}
