package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/daemon"
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
