package main

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

const (
	// logBuffer is how many lines wait for a log that is slow; beyond, the oldest
	// go. A call must never wait for whoever reads the log.
	logBuffer    = 4096
	flushTimeout = time.Second
)

// newLogger makes llmsup's log on stderr: for people on a terminal, for
// machines elsewhere. The configuration has been validated. flush waits until it
// is written, for a while.
func newLogger(cfg *config.Config, out *os.File) (log zerolog.Logger, flush func(), err error) {
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		return zerolog.Nop(), nil, err
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	console := cfg.LogFormat == "console" || cfg.LogFormat == "auto" && isTerminal(out)
	var to io.Writer = writerOnly{out}
	if console {
		to = zerolog.ConsoleWriter{Out: to, TimeFormat: "15:04:05.000", NoColor: !isTerminal(out)}
	}
	lines := diode.NewWriter(to, logBuffer, 0, func(int) {}) // lines were dropped: there is no place to say so
	flush = func() {
		flushed := make(chan struct{})
		go func() { defer close(flushed); _ = lines.Close() }()
		select {
		case <-flushed:
		case <-time.After(flushTimeout):
		}
	}
	zerolog.SetGlobalLevel(level) // which a reload may change
	return zerolog.New(lines).With().Timestamp().Logger(), flush, nil
}

// writerOnly keeps stderr from being closed with the log.
type writerOnly struct{ io.Writer }
