package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// printHelp is urfave/cli's help with its lines wrapped: the library's own option
// for that breaks the column of a flag's description.
func printHelp(out io.Writer, template string, data any) {
	var text bytes.Buffer
	cli.HelpPrinterCustom(&text, template, data, nil)
	p := newPage(os.Stdout)
	p.out = out
	whole := description.ReplaceAllStringFunc(text.String(), func(paragraph string) string { return lineEnd.ReplaceAllString(paragraph, "$1 $2") })
	for line := range strings.Lines(unbroken.ReplaceAllString(whole, "$1\u00a0")) {
		line = strings.TrimRight(line, "\n")
		hang := strings.Repeat(" ", min(len(described.FindString(line)), maxHang))
		if strings.HasPrefix(line, "   llmsup ") { // the rest of a command line
			hang += "    "
		}
		for _, part := range wrap(line, p.width(), hang) {
			p.line("%s", strings.ReplaceAll(part, "\u00a0", " "))
		}
	}
}

// maxHang bounds the indentation of a line's second part.
const maxHang = 40

var (
	// described is what stands before the description of a flag or a command, or
	// the indentation of another line.
	described = regexp.MustCompile(`^ *(\S+(?: \S+)*  +)?`)
	// description is a command's, in whatever lines its source has.
	description = regexp.MustCompile(`(?s)\nDESCRIPTION:\n.*?\n\n`)
	lineEnd     = regexp.MustCompile(`([^:])\n   (\S)`)
	// unbroken stands before a word that it belongs to.
	unbroken = regexp.MustCompile(`(\(default:) `)
)
