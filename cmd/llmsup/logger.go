package main

import (
	"io"
	"os"
	"sync"
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
	// logDelay is how long a line may wait for more, so that a system call writes
	// all of a busy moment: one for each line would be some 2 % of what a call costs.
	logDelay = 10 * time.Millisecond
	logBatch = 64 << 10 // bytes, of which there may be no more in waiting
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
	var to io.Writer = newBatch(out)
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

// batch writes what comes within logDelay at once. Closed, it writes what is left;
// what it writes to stays open.
type batch struct {
	mu    sync.Mutex
	out   io.Writer
	held  []byte
	timer *time.Timer // of what is held
}

func newBatch(out io.Writer) *batch {
	b := &batch{out: out}
	b.timer = time.AfterFunc(logDelay, b.flush)
	return b
}

// Write waits for the log only where there is too much of it already.
func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.held) == 0 {
		b.timer.Reset(logDelay)
	}
	if b.held = append(b.held, p...); len(b.held) >= logBatch {
		b.write()
	}
	return len(p), nil
}

// Close implements io.Closer.
func (b *batch) Close() error {
	b.timer.Stop()
	b.flush()
	return nil
}

func (b *batch) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

func (b *batch) write() {
	if len(b.held) > 0 {
		_, _ = b.out.Write(b.held) // there is no place to say that the log can't be written
		b.held = b.held[:0]
	}
}
