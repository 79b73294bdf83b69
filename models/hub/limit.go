package hub

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxAskedWait is how long a client waits in all because a server asks for it with Retry-After,
// between two answers without one. It is the window of the hub's own rate limits.
const maxAskedWait = 5 * time.Minute

// LimitedError is the answer of a server that asks to wait longer than a client does.
type LimitedError struct {
	Until time.Time // when the server may be asked again
	text  string
}

func (e *LimitedError) Error() string { return e.text }

// limits is what servers asked a client to wait, on all of its connections together.
type limits struct {
	mu    sync.Mutex
	first time.Time // of the answers that ask to wait, since the last one that does not; zero = none
	until time.Time // as the last notice says
}

// asked returns how long an answer asks to wait. ok is false if it does not.
func asked(resp *http.Response, now time.Time) (wait time.Duration, ok bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	return retryAfter(resp.Header, now)
}

// limit returns an error if an answer asks to wait for too long.
func (c *Client) limit(resp *http.Response, now time.Time) error {
	wait, ok := asked(resp, now)
	c.limits.mu.Lock()
	defer c.limits.mu.Unlock()
	switch {
	case !ok:
		c.limits.first = time.Time{}
		return nil
	case c.limits.first.IsZero():
		c.limits.first = now
	}
	if until := now.Add(wait); until.Sub(c.limits.first) > maxAskedWait {
		return &LimitedError{until, fmt.Sprintf("%s limits how often it is asked (%d), and asks to wait %s: try again then",
			hostOf(resp.Request.URL.String()), resp.StatusCode, wait.Round(time.Second))}
	}
	return nil
}

// notifyWait says that a server asks to wait: once for all connections that it asks at the same time.
func (c *Client) notifyWait(resp *http.Response, wait time.Duration, now time.Time) {
	c.limits.mu.Lock()
	until := now.Add(wait)
	isNew := until.Sub(c.limits.until) >= time.Second
	if isNew {
		c.limits.until = until
	}
	c.limits.mu.Unlock()
	if isNew {
		c.notify("%s answered %d; trying again in %s", hostOf(resp.Request.URL.String()), resp.StatusCode, wait.Round(time.Second))
	}
}

// retryAfter returns the time that an answer asks to wait, in seconds or as a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}
