package generic

import (
	"regexp"

	"github.com/rs/zerolog"
)

var (
	errorLine   = regexp.MustCompile(`(?i)\b(?:error|fatal|panic|critical)\b|Error: |Exception: `)
	warningLine = regexp.MustCompile(`(?i)\bwarn(?:ing)?\b`)
	// request matches the line of a request in the logs of HTTP servers: GET /health HTTP/1.1,
	// or GET "/health".
	request = regexp.MustCompile(`\bGET\s+"?(/[^\s"?]*)`)
)

// LogLine implements supervisor.Engine. Once the engine serves, llmsup's log gets none of
// its lines, which may quote prompts; `llmsup logs` has them. The lines about llmsup's own
// probes are dropped.
func (e Engine) LogLine(line string, serving bool) (text string, level zerolog.Level, ok bool) {
	if m := request.FindStringSubmatch(line); serving || m != nil && m[1] == e.healthPath() {
		return "", zerolog.DebugLevel, false
	}
	switch {
	case warningLine.MatchString(line):
		return line, zerolog.WarnLevel, true
	case errorLine.MatchString(line):
		return line, zerolog.ErrorLevel, true
	}
	return line, zerolog.DebugLevel, true
}
