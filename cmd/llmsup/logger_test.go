package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/supervisor/output"
)

// writes is a channel of all writes.
type writes chan string

func (w writes) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestLogLinesAreWrittenTogether(t *testing.T) {
	out := make(writes, 10)
	b := newBatchWriter(out)
	defer b.Close()
	var want, got strings.Builder
	for n := range 100 {
		line := fmt.Sprintf("line %d\n", n)
		want.WriteString(line)
		if _, err := b.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	for got.Len() < want.Len() { // without a Close
		got.WriteString(<-out)
	}
	if got.String() != want.String() {
		t.Errorf("it wrote %q, want %q", got.String(), want.String())
	}
}

func TestLogKeepsNoMoreThanABatch(t *testing.T) {
	out := make(writes, 10)
	b := newBatchWriter(out)
	defer b.Close()
	much := strings.Repeat("x", logBatch)
	for range 3 {
		if _, err := b.Write([]byte(much)); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-out:
			if len(got) != logBatch {
				t.Errorf("it wrote %d bytes, want %d", len(got), logBatch)
			}
		default:
			t.Error("more than a batch is pending")
		}
	}
}

func TestLogIsWholeAtItsEnd(t *testing.T) {
	out := make(writes, 10)
	b := newBatchWriter(out)
	if _, err := b.Write([]byte("last words\n")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-out:
		if got != "last words\n" {
			t.Errorf("it wrote %q", got)
		}
	default:
		t.Error("it closed without its last line")
	}
}

// stderrTo returns a file in place of stderr, and the JOURNAL_STREAM with which it is the
// journal's stream.
func stderrTo(t *testing.T) (f *os.File, stream string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

func TestJournalPriorities(t *testing.T) {
	level := zerolog.GlobalLevel()
	defer zerolog.SetGlobalLevel(level)
	for name, tc := range map[string]struct {
		format  string
		journal bool
		want    [5]string // how the lines of error, warn, info, debug and no level begin
	}{
		"json to the journal":    {"json", true, [5]string{`<3>{"level":"error"`, `<4>{"level":"warn"`, `<6>{"level":"info"`, `<7>{"level":"debug"`, `{"time"`}},
		"auto to the journal":    {"auto", true, [5]string{`<3>{"level":"error"`, `<4>{"level":"warn"`, `<6>{"level":"info"`, `<7>{"level":"debug"`, `{"time"`}},
		"console to the journal": {"console", true, [5]string{"<3>", "<4>", "<6>", "<7>", ""}},
		"json elsewhere":         {"json", false, [5]string{`{"level":"error"`, `{"level":"warn"`, `{"level":"info"`, `{"level":"debug"`, `{"time"`}},
		"console elsewhere":      {"console", false, [5]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			stderr, stream := stderrTo(t)
			if !tc.journal {
				stream += "1" // another file's
			}
			t.Setenv("JOURNAL_STREAM", stream)
			kept := output.NewRing()
			log, flush, err := newLogger(&config.Config{LogFormat: tc.format, LogLevel: "debug"}, stderr, kept)
			if err != nil {
				t.Fatal(err)
			}
			log.Error().Msg("an error")
			log.Warn().Str("level", "fatal").Msg("a warning") // a field that has the level's name
			log.Info().Msg("news\n<0>of two lines")
			log.Debug().Msg("a detail")
			log.Log().Msg("a line without a level")
			flush()
			if last, _ := kept.Last(10); len(last) != 5 || !strings.HasPrefix(last[0].Text, `{"level":"error"`) || !strings.HasSuffix(last[0].Text, `"message":"an error"}`) {
				t.Errorf("kept: %+v", last)
			}
			raw, err := os.ReadFile(stderr.Name())
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
			if tc.format != "console" && len(lines) != len(tc.want) {
				t.Fatalf("%d lines, want %d: %s", len(lines), len(tc.want), raw)
			}
			for i, text := range []string{"an error", "a warning", "news", "a detail", "a line without a level"} {
				found := false
				for _, line := range lines {
					found = found || strings.Contains(line, text) && strings.HasPrefix(line, tc.want[i]) && (tc.want[i] != "" || line[0] != '<')
				}
				if !found {
					t.Errorf("no line with %q begins with %q: %s", text, tc.want[i], raw)
				}
			}
		})
	}
}

func TestJournalText(t *testing.T) {
	for text, want := range map[string]string{"no way": "<3>llmsup: no way\n", "no\nway": "<3>llmsup: no\n<3>way\n"} {
		if got := journalText(errors.New(text)); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}

func TestIsJournal(t *testing.T) {
	f, stream := stderrTo(t)
	other, otherStream := stderrTo(t)
	for name, tc := range map[string]struct {
		file   *os.File
		stream string
		want   bool
	}{
		"the journal":     {f, stream, true},
		"another file":    {other, stream, false},
		"another journal": {f, otherStream, false},
		"no systemd":      {f, "", false},
		"not a stream":    {f, "journal", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isJournal(tc.file, tc.stream); got != tc.want {
				t.Errorf("isJournal(%q) = %v, want %v", tc.stream, got, tc.want)
			}
		})
	}
}

// TestConsoleLogIsPrintable: what llama-server or a hub sent cannot control the terminal.
func TestConsoleLogIsPrintable(t *testing.T) {
	level := zerolog.GlobalLevel()
	defer zerolog.SetGlobalLevel(level)
	stderr, _ := stderrTo(t)
	log, flush, err := newLogger(&config.Config{LogFormat: "console", LogLevel: "info"}, stderr, output.NewRing())
	if err != nil {
		t.Fatal(err)
	}
	log.Warn().Err(errors.New("no\x1b[2Jway")).Str("model", "a\x1b]0;title\a").Msg("chose\x1b[31m it\rand\nwrote")
	flush()
	raw, err := os.ReadFile(stderr.Name())
	if text := string(raw); err != nil || strings.ContainsAny(text, "\x1b\r\a") || !strings.Contains(text, "chose?[31m it?and\nwrote") {
		t.Errorf("it wrote %q: %v", text, err)
	}
}
