package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Names of flags. Each has an environment variable, LLMSUP_ and the name in
// capitals. A flag overrides its variable, which overrides the configuration file.
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

// startFlags returns the flags of start and of check, which checks what start would
// run.
func startFlags() []cli.Flag {
	defaults := config.Default()
	return []cli.Flag{
		&cli.StringFlag{Name: flagModel, TakesFile: true, EnvVars: []string{"LLMSUP_MODEL"}, Usage: "run llama-server on this `FILE.gguf`; of a split model, the first part; or on hf:ORG/REPO:QUANT, which is downloaded"},
		&cli.BoolFlag{Name: flagDemo, EnvVars: []string{"LLMSUP_DEMO"}, Usage: "run llama-server on a tiny generated model that counts: a self-test without a download"},
		&cli.StringFlag{Name: flagConfig, TakesFile: true, EnvVars: []string{"LLMSUP_CONFIG"}, Usage: "read servers, upstreams and routes from this `llmsup.yaml`, in addition to the built-in routes"},
		&cli.StringFlag{Name: flagListen, EnvVars: []string{"LLMSUP_LISTEN"}, Usage: "listen on this `HOST:PORT`", DefaultText: defaults.Listen},
		&cli.BoolFlag{Name: flagInsecure, EnvVars: []string{"LLMSUP_INSECURE_NO_AUTH"}, Usage: "allow unauthenticated access on a non-loopback --listen"},
		&cli.IntFlag{Name: flagCtxSize, EnvVars: []string{"LLMSUP_CTX_SIZE"}, Usage: "`TOKENS` of context, shared by llama-server's slots", DefaultText: "8192"},
		&cli.IntFlag{Name: flagNGPULayers, EnvVars: []string{"LLMSUP_N_GPU_LAYERS"}, Usage: "keep this many `LAYERS` of the model in VRAM", DefaultText: "99"},
		&cli.StringFlag{Name: flagLlamaServer, TakesFile: true, EnvVars: []string{"LLMSUP_LLAMA_SERVER"}, Usage: "`PATH` of llama-server", DefaultText: "the one on PATH, else the one that scripts/llama-server.sh downloaded"},
		&cli.StringFlag{Name: flagGPU, EnvVars: []string{"LLMSUP_GPU"}, Usage: "the `GPU` to run on: an index of nvidia-smi or a UUID, several separated by commas, or none", DefaultText: "all"},
		&cli.StringFlag{Name: flagStateDir, TakesFile: true, EnvVars: []string{"LLMSUP_STATE_DIR"}, Usage: "keep the state in this `FOLDER`; each daemon needs its own", DefaultText: paths.StateDir()},
		controlFlag(),
		&cli.StringFlag{Name: flagLogFormat, EnvVars: []string{"LLMSUP_LOG_FORMAT"}, Usage: "`auto|console|json`; auto is console on a terminal", DefaultText: "auto"},
		&cli.StringFlag{Name: flagLogLevel, EnvVars: []string{"LLMSUP_LOG_LEVEL"}, Usage: "`debug|info|warn|error`; debug includes the output of llama-server", DefaultText: "info"},
	}
}

func controlFlag() cli.Flag {
	return &cli.StringFlag{
		Name: flagControl, TakesFile: true, EnvVars: []string{"LLMSUP_CONTROL_SOCKET"},
		Usage: "the daemon's control `SOCKET`", DefaultText: paths.ControlSocket(),
	}
}

// controlSocket returns the path of the daemon's control socket. A user who runs no
// daemon gets the service's, which users of the group llmsup may operate.
func controlSocket(c *cli.Context) string {
	if path := c.String(flagControl); path != "" {
		return path
	}
	own := paths.ControlSocket()
	if _, err := os.Stat(own); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(paths.ServiceControlSocket); err == nil {
			return paths.ServiceControlSocket
		}
	}
	return own
}

// daemonClient returns the client for the running daemon.
func daemonClient(c *cli.Context) *control.Client {
	client := control.NewClient(controlSocket(c))
	client.Version = version
	client.OnVersionMismatch = func(daemon string) {
		fmt.Fprintf(os.Stderr, "llmsup: this is llmsup %s, and the daemon is %s; if something does not work, restart the daemon\n", version, printable(cmp.Or(daemon, "an older one")))
	}
	return client
}
