package supervisor

import (
	"regexp"
	"slices"
	"strings"
)

// withoutQuotes cuts a line of a server that takes calls where it may begin to
// quote one: llama-server prints the request that it could not parse. llmsup's
// log must never hold a prompt; the control socket, which only the operator can
// open, has the whole line.
func withoutQuotes(line string) string {
	if i := strings.IndexAny(line, "{[\"'`"); i >= 0 {
		return line[:i] + "[...]"
	}
	return line
}

// tailForLog is an end's last lines as the log may have them.
func (e *Exit) tailForLog() []string {
	if !e.served {
		return e.Tail
	}
	lines := make([]string, len(e.Tail))
	for i, line := range e.Tail {
		lines[i] = withoutQuotes(line)
	}
	return lines
}

// errorLine matches a line in which llama-server says what is wrong: its own
// log's level E ("0.00.015.302 E srv  load_model: ..."), or a plain "error: ...".
var errorLine = regexp.MustCompile(`^(?:[\d.]+ E |[Ee]rror[: ])`)

// lastWords returns the line of a dead process's output that says most about
// its end: the last one that speaks of an error, else the last one.
func lastWords(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if errorLine.MatchString(line) {
			return line
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}
