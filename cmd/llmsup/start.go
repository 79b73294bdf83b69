package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/daemon"
	"github.com/llmsup/llmsup/systemd"
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
			"Ctrl-C lets running calls end first; a second one does not. SIGHUP reads the configuration again (llmsup reload).",
		Flags:        startFlags(),
		OnUsageError: onUsageError,
		Action:       func(c *cli.Context) error { return start(c, hurry) },
	}
}

func start(c *cli.Context, hurry <-chan struct{}) error {
	hangup := hangups() // the first thing: a SIGHUP must not end a daemon that is about to begin
	manager, err := systemd.Find()
	if err != nil {
		return err
	}
	passed, err := systemd.Listener()
	if err != nil {
		return err
	}
	socket := ""
	if passed != nil {
		defer passed.Close()
		socket = passed.Addr().String()
	}
	cfg, err := configFrom(c, socket)
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
	setup, err := setUp(cfg, log)
	if err != nil {
		return err
	}
	d, err := daemon.Open(setup, daemon.Options{
		Version: version, Log: log, Hurry: hurry, Listener: passed, Systemd: manager,
		Again: func() (daemon.Setup, error) {
			cfg, err := configFrom(c, socket)
			if err != nil {
				return daemon.Setup{}, err
			}
			return setUp(cfg, log)
		},
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case terminalGone := <-hangup:
				if terminalGone {
					log.Warn().Msg("the terminal is gone")
					stop()
					return
				}
				_, _ = d.Reload() // what comes of it is in the log
			}
		}
	}()
	return d.Run(ctx)
}

// setUp looks for all that a configuration needs, and tells of models that are
// damaged: llama-server will say so too, and calls can still go to the cloud.
func setUp(cfg *config.Config, log zerolog.Logger) (daemon.Setup, error) {
	binary, headers, err := prepare(cfg)
	if err != nil {
		return daemon.Setup{}, err
	}
	for _, h := range headers {
		if h.err != nil {
			log.Warn().Str("server", h.server).Msg(h.err.Error())
		}
	}
	return daemon.Setup{Config: cfg, Binary: binary}, nil
}
