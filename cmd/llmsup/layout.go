package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
	"golang.org/x/text/width"
)

// pageWidth is how many columns a page has where its reader has no terminal.
const pageWidth = 80

// look is what the reader's side can show.
type look struct {
	unicode, color bool
	terminal       bool // sentences are wrapped there; elsewhere each is one line, for logs and grep
	width          int  // columns; 0 = pageWidth
}

// lookOf goes by the locale and, for colours, by whether it is a terminal that
// wants them (no-color.org).
func lookOf(out io.Writer) look {
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	l := look{unicode: strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")}
	if file, isFile := out.(*os.File); isFile && isTerminal(file) {
		l.terminal = true
		l.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		l.width, _ = windowSize(file)
	}
	return l
}

// windowSize returns a terminal's columns and rows; 0 = it does not know.
func windowSize(terminal *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

func (l look) columns() int { return cmp.Or(l.width, pageWidth) }

// page is what is written for a person, with the first error of writing it.
type page struct {
	out    io.Writer
	look   look
	err    error
	partly bool // a figure was written of which more is not known
}

func newPage(out io.Writer) *page { return &page{out: out, look: lookOf(out)} }

func (p *page) width() int { return p.look.columns() }

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// sentence writes one, on a terminal in as many lines as it needs: hang is what
// all but the first begin with.
func (p *page) sentence(hang, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.look.terminal {
		text = strings.Join(wrap(text, p.width(), hang), "\n")
	}
	p.line("%s", text)
}

// tableStyle says how the columns of a table stand.
type tableStyle int

const (
	numberTable tableStyle = iota // all but the first to the right
	wordTable                     // all to the left
	textTable                     // the same, and the last column is text, which is wrapped
)

// minText is how many columns the text of a textTable has at least.
const minText = 24

// table writes rows, the first of them the header, within the page's width. A
// first cell that is too long for its column has a line of its own. text/tabwriter
// knows no page width, does not wrap, and counts a wide character as one column.
func (p *page) table(rows [][]string, style tableStyle) {
	last := len(rows[0]) - 1
	widths := make([]int, last+1)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = strings.ReplaceAll(cell, "\t", " ")
			widths[i] = max(widths[i], columns(row[i]))
		}
	}
	text, rest := widths[last], 0
	for _, w := range widths[1:last] {
		rest += 2 + w
	}
	if style == textTable { // as much as its longest word, and what the others leave
		widths[last] = min(longestWord(rows, last), max(p.width()-columns(rows[0][0])-rest-2, minText))
	}
	rest += 2 + widths[last]
	room := p.width() - rest
	widths[0] = columns(rows[0][0])
	for _, row := range rows {
		if w := columns(row[0]); w <= room {
			widths[0] = max(widths[0], w)
		}
	}
	if style == textTable {
		widths[last] = min(text, widths[last]+max(room-widths[0], 0))
	}
	for _, row := range rows {
		first := row[0]
		if columns(first) > widths[0] {
			for _, line := range wrap(first, p.width(), "  ") {
				p.line("%s", line)
			}
			first = ""
		}
		parts := []string{""}
		if style == textTable {
			parts = wrap(row[last], widths[last], "")
			row = row[:last]
		}
		var line strings.Builder
		line.WriteString(pad(first, -widths[0]))
		for i, cell := range row[1:] {
			w := widths[i+1]
			if style != numberTable {
				w = -w
			}
			line.WriteString("  " + pad(cell, w))
		}
		indent := strings.Repeat(" ", columns(line.String()))
		for i, part := range parts {
			if i > 0 {
				line.Reset()
				line.WriteString(indent)
			}
			p.line("%s", strings.TrimRight(line.String()+"  "+part, " "))
		}
	}
}

// longestWord returns the width of the longest word in a column.
func longestWord(rows [][]string, column int) (longest int) {
	for _, row := range rows {
		for word := range strings.FieldsSeq(row[column]) {
			longest = max(longest, columns(word))
		}
	}
	return longest
}

// pad fills a cell up to a width, on its left, or with a negative one on its right.
func pad(cell string, width int) string {
	if spaces := max(width, -width) - columns(cell); spaces > 0 && width > 0 {
		return strings.Repeat(" ", spaces) + cell
	} else if spaces > 0 {
		return cell + strings.Repeat(" ", spaces)
	}
	return cell
}

// columns is how many columns of a terminal a text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	switch kind := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// wrap breaks a text into lines of a width, all but the first of which begin with
// hang. A word that is longer than a line is cut.
func wrap(text string, width int, hang string) []string {
	var lines []string
	line, used, empty := "", 0, true
	next := func() {
		lines = append(lines, strings.TrimRight(line, " "))
		line, used, empty = hang, columns(hang), true
	}
	for _, word := range strings.SplitAfter(text, " ") {
		if !empty && used+columns(strings.TrimRight(word, " ")) > width {
			next()
		}
		for _, r := range word {
			if used+runeColumns(r) > width && r != ' ' && used > columns(hang) {
				next()
			}
			line += string(r)
			used += runeColumns(r)
			empty = empty && r == ' '
		}
	}
	return append(lines, strings.TrimRight(line, " "))
}

// clip cuts a line to a width. Colours take none, and end with it.
func clip(line string, width int) string {
	var b strings.Builder
	used, escape, colored := 0, false, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape, colored = true, true
		case escape:
			escape = r != 'm'
		default:
			if used += runeColumns(r); used > width {
				if colored {
					b.WriteString("\x1b[0m")
				}
				return b.String()
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}
