package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// printHelp prints urfave/cli's help with wrapped lines. The library's own wrapping
// does not keep the column of the descriptions.
func printHelp(out io.Writer, template string, data any) {
	var text bytes.Buffer
	cli.HelpPrinterCustom(&text, template, data, nil)
	p := newPage(os.Stdout)
	p.out = out
	joined := description.ReplaceAllStringFunc(text.String(), func(paragraph string) string { return lineEnd.ReplaceAllString(paragraph, "$1 $2") })
	for line := range strings.Lines(noBreak.ReplaceAllString(joined, "$1\u00a0")) {
		line = strings.TrimRight(line, "\n")
		indent := strings.Repeat(" ", min(len(described.FindString(line)), maxIndent))
		if strings.HasPrefix(line, "   llmsup ") { // the continuation of a command line
			indent += "    "
		}
		for _, part := range wrap(line, p.width(), indent) {
			p.line("%s", strings.ReplaceAll(part, "\u00a0", " "))
		}
	}
}

// maxIndent limits the indentation of continuation lines.
const maxIndent = 40

var (
	// described matches what precedes the description of a flag or a command, or the
	// indentation of any other line.
	described = regexp.MustCompile(`^ *(\S+(?: \S+)*  +)?`)
	// description matches a command's description, whose source is broken into lines.
	description = regexp.MustCompile(`(?s)\nDESCRIPTION:\n.*?\n\n`)
	lineEnd     = regexp.MustCompile(`([^:])\n   (\S)`)
	// noBreak matches words that must stay on one line with the next word.
	noBreak = regexp.MustCompile(`(\(default:) `)
)
