package router

import (
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// breaker keeps calls from an upstream that is down: after breakAfter failures
// in a row it opens, and nobody waits for that upstream until one call in its
// name has tried it again.
//
//	closed --breakAfter failures--> open --its pause is over--> half-open
//	   ^                             ^                              |
//	   +------ the one call is answered / fails, twice the pause ---+
//
// A probe that says nothing leaves it open for the same pause: else one caller after
// another would wait for an upstream that hangs. A caller in haste who was not heard
// says little, but hastyAfter of them, with no answer to anybody between, say that
// it is down.
//
// The zero value is closed.
type breaker struct {
	mu       sync.Mutex
	failures int           // in a row
	hasty    int           // timeouts of callers in haste since the last answer
	pause    time.Duration // of the present opening; 0 = closed
	until    time.Time     // when it may be tried again
	probing  bool          // half-open, and somebody tries
	last     failure       // the newest one
}

const (
	breakAfter = 5
	hastyAfter = 3 * breakAfter
	breakFirst = 5 * time.Second
	breakMost  = time.Minute
)

// enter asks for leave to call. In half-open it is given to one at a time, the
// probe, who has to say how it went.
func (b *breaker) enter(now time.Time) (let, probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return true, false
	case now.Before(b.until) || b.probing:
		return false, false
	}
	b.probing = true
	return true, true
}

// shut says why the upstream is not called now, and for how long not; nil = it
// is, or may be tried.
func (b *breaker) shut(now time.Time) (last *failure, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 || !now.Before(b.until) && !b.probing {
		return nil, 0
	}
	f := b.last
	return &f, max(b.until.Sub(now), 0)
}

// breakerState is what the metrics call a breaker's state, the worst last.
type breakerState int

const (
	breakerClosed breakerState = iota
	breakerHalfOpen
	breakerOpen
)

var breakerStates = []breakerState{breakerClosed, breakerHalfOpen, breakerOpen}

func (s breakerState) String() string { return [...]string{"closed", "half_open", "open"}[s] }

// state returns the state that the breaker is in.
func (b *breaker) state(now time.Time) breakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return breakerClosed
	case now.Before(b.until) && !b.probing:
		return breakerOpen
	}
	return breakerHalfOpen
}

// outcome is how a call went, as far as it tells of its upstream.
type outcome int

const (
	saysNothing outcome = iota // the client left, say
	isUp
	isDown
)

// How long an upstream that is up may be silent. One caller's haste is no news of
// it to the others.
const (
	connectNeeds = 3 * time.Second  // until it takes a connection
	streamNeeds  = 10 * time.Second // until it sends a stream's head: those who think for longer send it before
	wholeNeeds   = 30 * time.Second // until it sends a whole answer's head: that may come with the answer
)

// isFair says whether an attempt that heard nothing has waited for as long as an
// upstream that is up may need. sent: it had a connection.
func isFair(waited time.Duration, sent, stream bool) bool {
	switch {
	case !sent:
		return waited >= connectNeeds
	case stream:
		return waited >= streamNeeds
	}
	return waited >= wholeNeeds
}

// outcomeOf reads a failed attempt, nil for one that was answered. An answer of
// its own, whatever it says, comes from an upstream that is up, unless it is a
// gateway's word that it is not.
func outcomeOf(f *failure, left bool) outcome {
	switch {
	case f == nil:
		return isUp
	case left:
		return saysNothing
	case f.spoke && (f.reason == Timeout || f.reason == Lost): // it took the call: one of its models is slow, or breaks
		return saysNothing
	case f.reason == Timeout && !f.fair: // its caller was in a hurry
		return saysNothing
	case f.reason == Connect, f.reason == Timeout, f.reason == Lost:
		return isDown
	case f.resp != nil && (f.resp.StatusCode == 502 || f.resp.StatusCode == 503 || f.resp.StatusCode == 504 || f.resp.StatusCode > 519):
		// In the API's own words it speaks of one model; a gateway before it does not
		// know those.
		if wire.ErrorMessage(gjson.ParseBytes(f.body)) == "" {
			return isDown
		}
	}
	return isUp
}

// report tells how a call went that enter had let in, as the probe or not. It
// returns whether the breaker has opened, or closed again.
func (b *breaker) report(o outcome, f *failure, probe bool, now time.Time) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if o == saysNothing && f != nil && f.reason == Timeout && !f.spoke {
		if b.hasty++; b.hasty >= hastyAfter {
			o, b.failures = isDown, max(b.failures, breakAfter-1)
		}
	}
	switch o {
	case isUp:
		closed = b.pause > 0
		b.failures, b.hasty, b.pause = 0, 0, 0
	case isDown:
		b.failures++
		b.last = failure{backend: f.backend, reason: f.reason, detail: f.detail}
		if b.failures < breakAfter || b.pause > 0 && !probe { // those were under way when it opened
			return false, false
		}
		opened = b.pause == 0
		b.pause = min(max(2*b.pause, breakFirst), breakMost)
		b.until = now.Add(b.pause)
	case saysNothing:
		if probe {
			b.until = now.Add(b.pause)
		}
	}
	return opened, closed
}
