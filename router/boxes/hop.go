package boxes

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Hop is the header X-Llmsup-Hop of a call that one box of the fleet sends to another:
// BOX CODE SERVER move|wait MILLISECONDS.
type Hop struct {
	Box     string        // the name of the box that sends it, and its code
	Server  string        // that is to answer it
	Moves   bool          // the call has an alternative, and moves there rather than wait
	Timeout time.Duration // until the first answer
}

func (h Hop) String() string {
	how := "wait"
	if h.Moves {
		how = "move"
	}
	return fmt.Sprintf("%s %s %s %d", h.Box, url.QueryEscape(h.Server), how, max(h.Timeout.Milliseconds(), 1))
}

// ParseHop parses the header. Box is the name alone then, and code the box's. ok is false if it
// is not one that llmsup sends.
func ParseHop(text string) (h Hop, code string, ok bool) {
	part := strings.Split(text, " ")
	if len(part) != 5 || part[3] != "wait" && part[3] != "move" {
		return Hop{}, "", false
	}
	server, err := url.QueryUnescape(part[2])
	milliseconds, err2 := strconv.ParseInt(part[4], 10, 64)
	if err != nil || err2 != nil || milliseconds <= 0 || milliseconds > int64(24*time.Hour/time.Millisecond) {
		return Hop{}, "", false
	}
	return Hop{Box: part[0], Server: server, Moves: part[3] == "move", Timeout: time.Duration(milliseconds) * time.Millisecond}, part[1], true
}
