package supervisor

import (
	"regexp"
	"slices"
)

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
