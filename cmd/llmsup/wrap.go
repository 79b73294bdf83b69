package main

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// columns returns how many columns of a terminal a text takes.
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

// wrap breaks a text into lines of a width. All lines but the first begin with
// indent. A word that is longer than a line is cut.
func wrap(text string, width int, indent string) []string {
	var lines []string
	line, used, empty := "", 0, true
	next := func() {
		lines = append(lines, strings.TrimRight(line, " "))
		line, used, empty = indent, columns(indent), true
	}
	for _, word := range strings.SplitAfter(text, " ") {
		if !empty && used+columns(strings.TrimRight(word, " ")) > width {
			next()
		}
		for _, r := range word {
			if used+runeColumns(r) > width && r != ' ' && used > columns(indent) {
				next()
			}
			line += string(r)
			used += runeColumns(r)
			empty = empty && r == ' '
		}
	}
	return append(lines, strings.TrimRight(line, " "))
}

// clip cuts a line to a width. Colour codes take no column; the cut resets them.
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
