package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
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
	batched := newBatch(out)
	var to io.Writer = batched
	if console {
		to = zerolog.ConsoleWriter{Out: to, TimeFormat: "15:04:05.000", NoColor: !isTerminal(out)}
	}
	if isJournal(out, os.Getenv("JOURNAL_STREAM")) {
		to = prioritized{prefixes: batched, lines: to}
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

// prioritized writes a line's journal priority before the line (sd-daemon(3)), so that
// journalctl -p err finds the errors. Its lines are zerolog's, one a Write.
type prioritized struct{ prefixes, lines io.Writer }

func (p prioritized) Write(line []byte) (int, error) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"level":"`)); ok {
		level, _, _ := bytes.Cut(rest, []byte(`"`))
		if _, err := io.WriteString(p.prefixes, priorities[string(level)]); err != nil {
			return 0, err
		}
	}
	return p.lines.Write(line)
}

// Close implements io.Closer, through which the end of the log is written.
func (p prioritized) Close() error {
	if c, ok := p.lines.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// priorityError is the prefix of an error in the journal.
const priorityError = "<3>"

// priorities are the prefixes by zerolog's level.
var priorities = map[string]string{
	"panic": priorityError, "fatal": priorityError, "error": priorityError,
	"warn": "<4>", "info": "<6>", "debug": "<7>", "trace": "<7>",
}

// isJournal reports whether a file is the journal's stream, which systemd names in
// $JOURNAL_STREAM as device:inode (systemd.exec(5)). A shell that the service starts
// inherits the variable, but may have sent its output elsewhere.
func isJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
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
