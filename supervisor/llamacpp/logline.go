package llamacpp

import (
	"regexp"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// LogLine implements supervisor.Engine.
//
// While it takes calls, llama-server quotes requests that it cannot parse, over
// several lines if they have several. Of a line from then on the log gets only the part that is
// llama-server's own. The control socket, which only the operator can open, has the
// whole line.
func (Engine) LogLine(line string, serving bool) (text string, level zerolog.Level, ok bool) {
	level = levelOf(line)
	if !serving {
		return line, level, true
	}
	// Without its text a warning is of no use: there are several for each prompt that
	// comes a second time.
	if level == zerolog.WarnLevel {
		level = zerolog.DebugLevel
	}
	text, ok = redactForLog(line)
	return text, level, ok
}

// ownPrefix matches the part of a line that llama-server itself writes: time, level,
// component and function.
var ownPrefix = regexp.MustCompile(`^[\d.]+ [A-Z] (?:srv|slot|res|que|cmn|ggml|llama)\w{0,40} +[a-z_]{1,40}(?:\(\))?:`)

func redactForLog(line string) (text string, ok bool) {
	own := ownPrefix.FindString(line)
	if own == "" {
		return "", false
	}
	return own + " [...]", true
}

// levelMark matches the level in a line of llama-server's log: "0.00.015.302 E srv ...".
var levelMark = regexp.MustCompile(`^[\d.]+ ([A-Z]) `)

// levelOf returns the level that a line has for llmsup's operator. What llama-server
// logs as information, several lines a call, is detail there.
func levelOf(line string) zerolog.Level {
	mark := ""
	if m := levelMark.FindStringSubmatch(line); m != nil {
		mark = m[1]
	}
	switch {
	case mark == "E", strings.HasPrefix(line, "error"), strings.HasPrefix(line, "CUDA error"):
		return zerolog.ErrorLevel
	case mark == "W", strings.HasPrefix(line, "warning"):
		return zerolog.WarnLevel
	}
	return zerolog.DebugLevel
}

// errorLine matches a line in which llama-server reports an error: level E of its
// log ("0.00.015.302 E srv  load_model: ..."), or a plain "error: ...".
var errorLine = regexp.MustCompile(`^(?:[\d.]+ E |[Ee]rror[: ])`)

// lastError returns the line that explains most about the end of a process: the last
// one that reports an error, else the last one.
func lastError(lines []string) string {
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

// logPrefix matches what llama-server's log writes before the message.
var logPrefix = regexp.MustCompile(`^[\d.]+ [A-Z] `)

// messageOf returns the message of a line.
func messageOf(line string) string {
	return strings.TrimSpace(logPrefix.ReplaceAllString(line, ""))
}
