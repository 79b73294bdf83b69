package access

import (
	"maps"
	"strings"
	"sync"
	"time"
)

// RejectedOrigins limits the log lines for web pages that are not allowed: a page can make
// any number of requests, with any number of names. The zero value is ready for use.
type RejectedOrigins struct {
	mu     sync.Mutex
	logged map[string]time.Time // by origin: the last line
}

const (
	// originInterval is the time after which an origin has another line.
	originInterval = time.Minute
	// maxOrigins is how many origins have a line in that time.
	maxOrigins = 20
)

// Note reports whether the rejection of an Origin is to be logged now, and how.
func (l *RejectedOrigins) Note(origin string, now time.Time) (text string, logIt bool) {
	text = originText(origin)
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.logged, func(_ string, at time.Time) bool { return now.Sub(at) >= originInterval })
	if _, known := l.logged[text]; known || len(l.logged) >= maxOrigins {
		return text, false
	}
	if l.logged == nil {
		l.logged = map[string]time.Time{}
	}
	l.logged[text] = now
	return text, true
}

// originText returns an Origin for the log, if it has the form of one: anything else may
// be forged lines or a secret.
func originText(origin string) string {
	const limit = 300 // bytes; a host name has 253 at most
	if _, ok := ParseOrigin(origin); !ok || len(origin) > limit || strings.Contains(origin, "*") {
		return "(not an origin)"
	}
	return origin
}
