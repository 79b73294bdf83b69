package supervisor

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

const (
	// forwardBurst is how many lines of a child go into llmsup's log within
	// forwardEvery. A child that floods is cut there; the ring has the rest.
	forwardBurst = 500
	forwardEvery = time.Second
)

// forward copies a server's output into llmsup's log until ctx ends. It is a
// reader of the ring like any other: when the log is slow, lines are left out,
// and nobody waits.
func forward(ctx context.Context, output *ring, log zerolog.Logger) {
	seq := output.count() + 1
	windowEnds, written := time.Now().Add(forwardEvery), 0
	for {
		if now := time.Now(); !now.Before(windowEnds) {
			windowEnds, written = now.Add(forwardEvery), 0
		}
		lines, lost, more := output.from(seq, forwardBurst-written)
		if lost > 0 {
			log.Warn().Uint64("lines", lost).Msg("llama-server prints faster than the log takes it; lines are left out")
		}
		for _, line := range lines {
			seq = line.Seq + 1
			text, level, ok := line.Text, levelOf(line.Text), true
			if line.serving {
				// Without its words a warning warns of nothing: there are several for
				// each prompt that comes a second time.
				if text, ok = forLog(line.Text); level == zerolog.WarnLevel {
					level = zerolog.DebugLevel
				}
			}
			if ok {
				log.WithLevel(level).Msg(text)
			}
		}
		written += len(lines)
		wait := more
		var pause <-chan time.Time
		if written >= forwardBurst { // a flood: the rest of the second is the ring's alone
			wait, pause = nil, time.After(time.Until(windowEnds))
		}
		select {
		case <-ctx.Done():
			if len(lines) == 0 || pause != nil {
				return
			}
		case <-wait:
		case <-pause:
		}
	}
}

// levelMark is where llama-server's log has its level: "0.00.015.302 E srv ...".
var levelMark = regexp.MustCompile(`^[\d.]+ ([A-Z]) `)

// levelOf gives a line of llama-server's the level that it has for llmsup's
// operator. Its information is llmsup's detail: several lines a call.
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
