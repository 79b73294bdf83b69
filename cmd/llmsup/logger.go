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

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/supervisor/output"
)

const (
	// logBuffer is how many lines are buffered for a slow log; beyond it the oldest
	// are dropped. A call must never wait for the reader of the log.
	logBuffer    = 4096
	flushTimeout = time.Second
	// logDelay is how long a line waits for more lines, so that one system call writes
	// them all: a write per line would be some 2 % of the cost of a call.
	logDelay = 10 * time.Millisecond
	logBatch = 64 << 10 // bytes; a full batch is written at once
)

// newLogger returns the logger on stderr: by default in a format for people on a
// terminal, and as JSON elsewhere. kept gets each line as JSON. The configuration has been
// validated. flush waits until the log is written, for flushTimeout at most.
func newLogger(cfg *config.Config, out *os.File, kept *output.Ring) (log zerolog.Logger, flush func(), err error) {
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		return zerolog.Nop(), nil, err
	}
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00"
	console := cfg.LogFormat == "console" || cfg.LogFormat == "auto" && isTerminal(out)
	batches := newBatchWriter(out)
	var to io.Writer = batches
	if console {
		to = zerolog.ConsoleWriter{Out: to, TimeFormat: "15:04:05.000", NoColor: !isTerminal(out), FormatPrepare: printableMessage}
	}
	if isJournal(out, os.Getenv("JOURNAL_STREAM")) {
		to = priorityWriter{prefixes: batches, lines: to}
	}
	lines := newLineQueue(keepingWriter{kept, to}, logBuffer)
	flush = func() {
		flushed := make(chan struct{})
		go func() { defer close(flushed); _ = lines.Close() }()
		select {
		case <-flushed:
		case <-time.After(flushTimeout):
		}
	}
	zerolog.SetGlobalLevel(level) // a reload may change it
	return zerolog.New(lines).With().Timestamp().Logger(), flush, nil
}

// printableMessage makes the message of a line of the log printable, as it may quote what
// llama-server or a hub sent. zerolog itself quotes the other fields.
func printableMessage(line map[string]any) error {
	if text, ok := line[zerolog.MessageFieldName].(string); ok {
		line[zerolog.MessageFieldName] = printableLines(text)
	}
	return nil
}

// keepingWriter keeps the last lines, for the web page.
type keepingWriter struct {
	kept  *output.Ring
	lines io.Writer
}

func (k keepingWriter) Write(line []byte) (int, error) {
	k.kept.Add(string(bytes.TrimSuffix(line, []byte("\n"))), false)
	return k.lines.Write(line)
}

// Close implements io.Closer: it writes the end of the log.
func (k keepingWriter) Close() error {
	if c, ok := k.lines.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// priorityWriter writes each line's journal priority before the line (sd-daemon(3)),
// so that journalctl -p err finds the errors. Each Write is one line of zerolog's.
type priorityWriter struct{ prefixes, lines io.Writer }

func (p priorityWriter) Write(line []byte) (int, error) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"level":"`)); ok {
		level, _, _ := bytes.Cut(rest, []byte(`"`))
		if _, err := io.WriteString(p.prefixes, priorities[string(level)]); err != nil {
			return 0, err
		}
	}
	return p.lines.Write(line)
}

// Close implements io.Closer: it writes the end of the log.
func (p priorityWriter) Close() error {
	if c, ok := p.lines.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// priorityError is the prefix of an error in the journal.
const priorityError = "<3>"

// priorities maps zerolog's levels to the journal's prefixes.
var priorities = map[string]string{
	"panic": priorityError, "fatal": priorityError, "error": priorityError,
	"warn": "<4>", "info": "<6>", "debug": "<7>", "trace": "<7>",
}

// isJournal reports whether a file is the journal's stream. systemd sets
// $JOURNAL_STREAM to its device:inode (systemd.exec(5)). The variable alone is not
// enough: a child process inherits it even if its output is redirected.
func isJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// batchWriter collects what is written within logDelay into one write. Close writes
// the rest and leaves the underlying writer open.
type batchWriter struct {
	mu      sync.Mutex
	out     io.Writer
	pending []byte
	timer   *time.Timer // writes what is pending
}

func newBatchWriter(out io.Writer) *batchWriter {
	b := &batchWriter{out: out}
	b.timer = time.AfterFunc(logDelay, b.flush)
	return b
}

// Write blocks only while a full batch is written.
func (b *batchWriter) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		b.timer.Reset(logDelay)
	}
	if b.pending = append(b.pending, p...); len(b.pending) >= logBatch {
		b.write()
	}
	return len(p), nil
}

// Close implements io.Closer.
func (b *batchWriter) Close() error {
	b.timer.Stop()
	b.flush()
	return nil
}

func (b *batchWriter) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

func (b *batchWriter) write() {
	if len(b.pending) > 0 {
		_, _ = b.out.Write(b.pending) // an error of the log cannot be reported anywhere
		b.pending = b.pending[:0]
	}
}
