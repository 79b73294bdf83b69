package supervisor

import "regexp"

// errorLine matches a line in which llama-server says what is wrong: its own
// log's level E ("0.00.015.302 E srv  load_model: ..."), or a plain "error: ...".
var errorLine = regexp.MustCompile(`^(?:[\d.]+ E |error: |Error: |.*error while loading)`)

// lastWords returns the line of a dead process's output that says most about
// its end: the last one that speaks of an error, else the last one.
func lastWords(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if errorLine.MatchString(lines[i]) {
			return lines[i]
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}
