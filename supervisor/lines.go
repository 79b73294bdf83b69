package supervisor

import (
	"bytes"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxLine is where a line of a child's output is cut, in bytes. What lies
	// beyond is dropped as it comes, so a child can't make llmsup grow.
	maxLine = 8 << 10
	// tailBytes is how much of the end of the output is kept for a post-mortem.
	tailBytes = 8 << 10
)

// lineWriter cuts a child's output into lines and hands each to emit, without
// its end of line. It never fails: a child whose output breaks dies of SIGPIPE.
type lineWriter struct {
	emit func(line string)

	line bytes.Buffer
	over bool // the present line was cut already
}

// Write takes output as it comes, in pieces of any size.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		p = rest
		if !w.over {
			room := maxLine - w.line.Len()
			w.line.Write(part[:min(len(part), room)])
			w.over = len(part) > room
		}
		if ended {
			w.flush()
		}
	}
	return n, nil
}

// flush hands on what has no end of line yet.
func (w *lineWriter) flush() {
	if w.over {
		w.line.WriteString(" [...]")
	}
	if line := printable(strings.TrimRight(w.line.String(), "\r")); line != "" {
		w.emit(line)
	}
	w.line.Reset()
	w.over = false
}

// printable keeps what a child prints from steering the terminals on which it
// ends up.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// tail keeps the last lines of a child's output, tailBytes at most.
type tail struct {
	mu    sync.Mutex
	lines []string
	bytes int
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	t.bytes += len(line)
	for t.bytes > tailBytes && len(t.lines) > 1 {
		t.bytes -= len(t.lines[0])
		t.lines[0] = "" // let it go: the slice's array lives on
		t.lines = t.lines[1:]
	}
}

// snapshot returns the lines kept so far.
func (t *tail) snapshot() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string{}, t.lines...)
}
