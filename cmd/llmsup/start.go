package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/daemon"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleetconfig"
	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/systemd"
)

func startCommand(forceStop <-chan struct{}) *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "run the daemon in the foreground",
		ArgsUsage: "[-- llama-server flags]",
		UsageText: "llmsup start --model FILE.gguf [flags] [-- llama-server flags]\nllmsup start --demo\nllmsup start --config llmsup.yaml",
		Description: "Runs llama-server on a model and serves an OpenAI-compatible endpoint. Calls for \"local/...\" go to llama-server, " +
			"and to OpenRouter when it cannot answer; calls for premium models go straight to OpenRouter, with the key in " +
			"$OPENROUTER_API_KEY. Arguments after \"--\" are passed to llama-server. Ctrl-C waits for running calls before it stops " +
			"llama-server; press it again to stop at once. SIGHUP reloads the configuration, as llmsup reload does.",
		Flags:        startFlags(),
		OnUsageError: onUsageError,
		Action:       func(c *cli.Context) error { return start(c, forceStop) },
	}
}

func start(c *cli.Context, forceStop <-chan struct{}) error {
	hangups := watchSIGHUP() // first of all: a SIGHUP must not end a daemon that is starting
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
	cfg, err := configFrom(c, socket, sources{shared: fleetconfig.Saved})
	if err != nil {
		return err
	}
	// The daemon must survive the end of the process that reads its log
	// (llmsup start 2>&1 | head).
	signal.Ignore(syscall.SIGPIPE)
	kept := output.NewRing()
	log, flush, err := newLogger(cfg, os.Stderr, kept)
	if err != nil {
		return err
	}
	defer flush()
	setup, err := loadSetup(cfg)
	if err != nil {
		return err
	}
	d, err := daemon.Open(setup, daemon.Options{
		Version: version, Log: log, LogLines: kept, ForceStop: forceStop, Listener: passed, Systemd: manager,
		LoadSetup: func(text []byte, shared *config.Shared) (daemon.Setup, error) {
			cfg, err := configFrom(c, socket, sources{text, func(string) (*config.Shared, error) { return shared, nil }})
			if err != nil {
				return daemon.Setup{}, err
			}
			return loadSetup(cfg)
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
			case terminalClosed := <-hangups:
				if terminalClosed {
					log.Warn().Msg("the terminal was closed")
					stop()
					return
				}
				_, _ = d.Reload() // the result is in the log
			}
		}
	}()
	return d.Run(ctx)
}

// loadSetup checks the files that a configuration needs.
func loadSetup(cfg *config.Config) (daemon.Setup, error) {
	pair, err := readCertificate(cfg)
	if err != nil {
		return daemon.Setup{}, err
	}
	programs, headers, err := preflight(cfg)
	if err != nil {
		return daemon.Setup{}, err
	}
	var warnings []string
	if warning := cfg.TLS.Warning(); warning != "" {
		warnings = append(warnings, warning)
	}
	for _, h := range headers {
		if h.err != nil {
			warnings = append(warnings, "server "+h.server+": "+h.err.Error())
		}
	}
	return daemon.Setup{Config: cfg, Programs: programs, Certificate: pair, Warnings: warnings}, nil
}

// readCertificate reads the endpoint's certificate; nil = it speaks HTTP.
func readCertificate(cfg *config.Config) (*certificate.Pair, error) {
	if !cfg.TLS.Enabled() {
		return nil, nil
	}
	pair, key, err := cfg.TLS.Read()
	if err != nil {
		return nil, cfg.ErrorAt([]string{"tls", key}, "%w", err)
	}
	return pair, nil
}
