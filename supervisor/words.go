package supervisor

import (
	"regexp"
	"slices"
)

// ownWords matches the part of a line that is llama-server's own: time, level,
// component and function.
var ownWords = regexp.MustCompile(`^[\d.]+ [A-Z] (?:srv|slot|res|que|cmn|ggml|llama)\w{0,40} +[a-z_]{1,40}(?:\(\))?:`)

// forLog is what llmsup's log may have of a line that was printed while the
// server took calls: llama-server quotes requests that it can't parse, over
// several lines if they have some, and the log must never hold a prompt. The
// control socket, which only the operator can open, has the whole line.
func forLog(line string) (words string, ok bool) {
	own := ownWords.FindString(line)
	if own == "" {
		return "", false
	}
	return own + " [...]", true
}

// tailForLog is an end's last lines as the log may have them.
func (e *Exit) tailForLog() []string {
	if !e.served {
		return e.Tail
	}
	var lines []string
	for _, line := range e.Tail {
		if words, ok := forLog(line); ok {
			lines = append(lines, words)
		}
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
