package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pageWidth is the width of a page, in columns, that is not printed to a terminal.
const pageWidth = 80

// display is what the output can show.
type display struct {
	unicode, color bool
	terminal       bool // sentences are wrapped on a terminal; elsewhere each is one line, for logs and grep
	width          int  // columns; 0 = pageWidth
}

// displayOf returns what out can show: the locale decides on Unicode, and only a
// terminal gets colours (no-color.org).
func displayOf(out io.Writer) display {
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	d := display{unicode: strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")}
	if file, isFile := out.(*os.File); isFile && isTerminal(file) {
		d.terminal = true
		d.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		d.width, _ = windowSize(file)
	}
	return d
}

// windowSize returns a terminal's columns and rows; 0 = unknown.
func windowSize(terminal *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

func (d display) columns() int { return cmp.Or(d.width, pageWidth) }

// page is output for people. It keeps the first write error.
type page struct {
	out        io.Writer
	display    display
	err        error
	hasUnknown bool // a figure was printed that is unknown for some of the calls
}

func newPage(out io.Writer) *page { return &page{out: out, display: displayOf(out)} }

func (p *page) width() int { return p.display.columns() }

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// sentence prints a sentence. On a terminal it is wrapped, and all lines but the
// first begin with indent.
func (p *page) sentence(indent, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.display.terminal {
		text = strings.Join(wrap(text, p.width(), indent), "\n")
	}
	p.line("%s", text)
}
