package output

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

const (
	// logBurst is how many lines of a server may go into llmsup's log within
	// logWindow. The ring keeps the others of a server that prints more.
	logBurst  = 500
	logWindow = time.Second
)

// Format returns what llmsup's log may have of a line, and at which level; ok is
// false if it may have nothing. serving says that the server was taking calls:
// the line may then quote a prompt, which must never reach the log.
type Format func(line string, serving bool) (text string, level zerolog.Level, ok bool)

// CopyToLog copies a server's output into llmsup's log until ctx ends. It reads
// the ring like any other reader: a slow log misses lines, and the process does not
// wait for it.
func CopyToLog(ctx context.Context, ring *Ring, log zerolog.Logger, format Format) {
	seq := ring.Count() + 1
	windowEnds, written := time.Now().Add(logWindow), 0
	for {
		if now := time.Now(); !now.Before(windowEnds) {
			windowEnds, written = now.Add(logWindow), 0
		}
		lines, lost, added := ring.From(seq, logBurst-written)
		if lost > 0 {
			log.Warn().Uint64("lines", lost).Msg("the server prints faster than the log accepts; lines are left out here, see `llmsup logs`")
		}
		for _, line := range lines {
			seq = line.Seq + 1
			if text, level, ok := format(line.Text, line.serving); ok {
				log.WithLevel(level).Msg(text)
			}
		}
		written += len(lines)
		next := added
		var window <-chan time.Time
		if written >= logBurst { // only the ring gets the rest of this window
			next, window = nil, time.After(time.Until(windowEnds))
		}
		select {
		case <-ctx.Done():
			if len(lines) == 0 || window != nil {
				return
			}
		case <-next:
		case <-window:
		}
	}
}
