package boxes

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/pick"
)

// Hop is the header X-Llmsup-Hop of a call that one box of the fleet sends to another:
// BOX CODE SERVER move|wait|MODELWAIT TIMEOUT [MAXWAIT], the times in milliseconds.
type Hop struct {
	Box       string        // the name of the box that sends it, and its code
	Server    string        // that is to answer it
	Moves     bool          // the call has an alternative, and moves there rather than wait
	ModelWait time.Duration // but so long it waits for a model that is not loaded
	Timeout   time.Duration // until the first answer
	MaxWait   pick.MaxWait  // as that of a backend.Attempt: the box refuses the call rather than let it wait longer for a slot
}

func (h Hop) String() string {
	how := "wait"
	switch {
	case h.Moves && h.ModelWait > 0:
		how = strconv.FormatInt(max(inHeader(h.ModelWait), 1), 10)
	case h.Moves:
		how = "move"
	}
	text := fmt.Sprintf("%s %s %s %d", h.Box, url.QueryEscape(h.Server), how, max(inHeader(h.Timeout), 1))
	if h.MaxWait.Limited {
		text += fmt.Sprintf(" %d", inHeader(h.MaxWait.Limit))
	}
	return text
}

// ParseHop parses the header. Box is the name alone then, and code the box's. ok is false if it
// is not one that llmsup sends. A later version of llmsup may send more fields.
func ParseHop(text string) (h Hop, code string, ok bool) {
	part := strings.Split(text, " ")
	if len(part) < 5 {
		return Hop{}, "", false
	}
	server, err := url.QueryUnescape(part[2])
	timeout, ok := milliseconds(part[4])
	if err != nil || !ok || timeout == 0 {
		return Hop{}, "", false
	}
	h = Hop{Box: part[0], Server: server, Moves: part[3] != "wait", Timeout: timeout}
	if h.Moves && part[3] != "move" {
		if h.ModelWait, ok = milliseconds(part[3]); !ok {
			return Hop{}, "", false
		}
	}
	if len(part) > 5 {
		h.MaxWait.Limited = true
		h.MaxWait.Limit, ok = milliseconds(part[5])
	}
	return h, part[1], ok
}

// maxTime is the longest time in a header: a longer one could not be added to another one.
const maxTime = 24 * time.Hour

// inHeader returns a time as a header has it.
func inHeader(d time.Duration) (milliseconds int64) { return min(d, maxTime).Milliseconds() }

func milliseconds(text string) (d time.Duration, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > maxTime.Milliseconds() {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}
