package output

import (
	"bytes"
	"strings"
	"unicode"
)

// maxLine is where LineWriter cuts a line, in bytes. It drops the rest as it
// comes, so that a process cannot make llmsup grow.
const maxLine = 8 << 10

// LineWriter cuts a process's output into lines and passes each to Emit, without
// its end of line. Write never fails: a process whose output breaks dies of
// SIGPIPE.
type LineWriter struct {
	Emit func(line string)

	line bytes.Buffer
	over bool // the present line has been cut already
}

// Write takes output as it comes, in pieces of any size.
func (w *LineWriter) Write(p []byte) (int, error) {
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
			w.Flush()
		}
	}
	return n, nil
}

// Flush emits a last line that has no end of line.
func (w *LineWriter) Flush() {
	if w.over {
		w.line.WriteString(" [...]")
	}
	if line := printable(strings.TrimRight(w.line.String(), "\r")); line != "" {
		w.Emit(line)
	}
	w.line.Reset()
	w.over = false
}

// printable replaces control characters, which would steer the terminals on which
// lines are shown.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
