package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Names of flags. Each has an environment variable, LLMSUP_ and the name in
// capitals; a flag wins over it, and it wins over the configuration file.
const (
	flagModel       = "model"
	flagDemo        = "demo"
	flagConfig      = "config"
	flagListen      = "listen"
	flagCtxSize     = "ctx-size"
	flagNGPULayers  = "n-gpu-layers"
	flagLlamaServer = "llama-server"
	flagGPU         = "gpu"
	flagStateDir    = "state-dir"
	flagControl     = "control-socket"
	flagLogFormat   = "log-format"
	flagLogLevel    = "log-level"
	flagInsecure    = "insecure-no-auth"
)

// startFlags are the flags of start, which check takes as well: it checks what
// start would run.
func startFlags() []cli.Flag {
	was := config.Default()
	return []cli.Flag{
		&cli.StringFlag{Name: flagModel, TakesFile: true, EnvVars: []string{"LLMSUP_MODEL"}, Usage: "run llama-server on this `FILE.gguf`; of a split model, its first part"},
		&cli.BoolFlag{Name: flagDemo, EnvVars: []string{"LLMSUP_DEMO"}, Usage: "run it on a tiny model made on the spot, which counts: a self-test without a download"},
		&cli.StringFlag{Name: flagConfig, TakesFile: true, EnvVars: []string{"LLMSUP_CONFIG"}, Usage: "read servers, upstreams and routes from this `llmsup.yaml`; without one the built-in table serves"},
		&cli.StringFlag{Name: flagListen, EnvVars: []string{"LLMSUP_LISTEN"}, Usage: "take calls at this `HOST:PORT`", DefaultText: was.Listen},
		&cli.BoolFlag{Name: flagInsecure, EnvVars: []string{"LLMSUP_INSECURE_NO_AUTH"}, Usage: "let other machines call without a key, where there are no keys and --listen is not loopback"},
		&cli.IntFlag{Name: flagCtxSize, EnvVars: []string{"LLMSUP_CTX_SIZE"}, Usage: "`TOKENS` of context, shared by llama-server's slots", DefaultText: "8192"},
		&cli.IntFlag{Name: flagNGPULayers, EnvVars: []string{"LLMSUP_N_GPU_LAYERS"}, Usage: "how many `LAYERS` of the model to keep in VRAM", DefaultText: "99"},
		&cli.StringFlag{Name: flagLlamaServer, TakesFile: true, EnvVars: []string{"LLMSUP_LLAMA_SERVER"}, Usage: "`PATH` of llama-server", DefaultText: "the one on PATH, else the one that scripts/llama-server.sh got"},
		&cli.StringFlag{Name: flagGPU, EnvVars: []string{"LLMSUP_GPU"}, Usage: "the `GPU` to run on: an index of nvidia-smi, a UUID, or none", DefaultText: "all"},
		&cli.StringFlag{Name: flagStateDir, TakesFile: true, EnvVars: []string{"LLMSUP_STATE_DIR"}, Usage: "keep sockets and state in this `FOLDER`, one daemon each", DefaultText: config.DefaultStateDir()},
		controlFlag(),
		&cli.StringFlag{Name: flagLogFormat, EnvVars: []string{"LLMSUP_LOG_FORMAT"}, Usage: "`auto|console|json`; auto is console on a terminal", DefaultText: "auto"},
		&cli.StringFlag{Name: flagLogLevel, EnvVars: []string{"LLMSUP_LOG_LEVEL"}, Usage: "`debug|info|warn|error`; debug shows what llama-server prints", DefaultText: "info"},
	}
}

func controlFlag() cli.Flag {
	return &cli.StringFlag{
		Name: flagControl, TakesFile: true, EnvVars: []string{"LLMSUP_CONTROL_SOCKET"},
		Usage: "the daemon's control `SOCKET`", DefaultText: config.DefaultControlSocket(),
	}
}

// controlSocket is where a client of the daemon finds it. Whoever has no daemon of
// his own means the service's, which he may be an operator of.
func controlSocket(c *cli.Context) string {
	if path := c.String(flagControl); path != "" {
		return path
	}
	own := config.DefaultControlSocket()
	if _, err := os.Stat(own); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(config.ServiceControlSocket); err == nil {
			return config.ServiceControlSocket
		}
	}
	return own
}

// daemonClient is the client that a command talks to the daemon with.
func daemonClient(c *cli.Context) *control.Client {
	client := control.NewClient(controlSocket(c))
	client.Version = version
	client.Other = func(daemon string) {
		fmt.Fprintf(os.Stderr, "llmsup: this is llmsup %s, and the daemon is %s; restart the daemon if something does not fit\n", version, printable(cmp.Or(daemon, "an older one")))
	}
	return client
}
