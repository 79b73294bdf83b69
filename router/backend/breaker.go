package backend

import (
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/wire"
)

// breaker keeps calls from an upstream that is down: after BreakAfter failures in a row it
// opens, and no call waits for that upstream until one call, the probe, has tried it
// again.
//
//	closed --BreakAfter failures--> open --its pause is over--> half-open
//	   ^                             ^                              |
//	   +------ the one call is answered / fails, twice the pause ---+
//
// A probe without a result leaves the breaker open for the same pause: otherwise one call
// after another would wait for an upstream that hangs. One timeout of a call with a short
// limit is no evidence; impatientThreshold of them without an answer in between are.
//
// The zero value is closed.
type breaker struct {
	mu        sync.Mutex
	failures  int           // in a row
	impatient int           // timeouts after too short a wait, since the last answer
	pause     time.Duration // how long the breaker stays open this time; 0 = closed
	until     time.Time     // when the upstream may be tried again
	probing   bool          // half-open, and the probe is under way
	last      Failure       // the latest failure
}

const (
	// BreakAfter is how many failures in a row open a breaker, FirstOpen for how long
	// it stays open the first time.
	BreakAfter         = 5
	impatientThreshold = 3 * BreakAfter
	FirstOpen          = 5 * time.Second
	maxOpen            = time.Minute
)

// allow reports whether a call may be made. While the breaker is half-open it allows one
// call at a time, the probe, whose result must be passed to report.
func (b *breaker) allow(now time.Time) (allowed, probe bool) {
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

// openReason returns why the upstream gets no calls now, and for how long; nil = it
// gets calls, or may be tried.
func (b *breaker) openReason(now time.Time) (last *Failure, left time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 || !now.Before(b.until) && !b.probing {
		return nil, 0
	}
	f := b.last
	return &f, max(b.until.Sub(now), 0)
}

// BreakerState is the state of a circuit breaker, the worst last.
type BreakerState int

const (
	BreakerClosed BreakerState = iota
	BreakerHalfOpen
	BreakerOpen
)

// BreakerStates are all of them.
var BreakerStates = []BreakerState{BreakerClosed, BreakerHalfOpen, BreakerOpen}

func (s BreakerState) String() string { return [...]string{"closed", "half_open", "open"}[s] }

// state returns the state that the breaker is in.
func (b *breaker) state(now time.Time) BreakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.pause == 0:
		return BreakerClosed
	case now.Before(b.until) && !b.probing:
		return BreakerOpen
	}
	return BreakerHalfOpen
}

// outcome is what a call shows about its upstream.
type outcome int

const (
	noEvidence outcome = iota // for example, the client closed the connection
	isUp
	isDown
)

// How long a healthy upstream may be silent. A call with a shorter timeout shows nothing
// about the upstream.
const (
	connectTime = 3 * time.Second  // until it accepts a connection
	streamTime  = 10 * time.Second // until it sends a stream's headers, which do not wait for the first token
	wholeTime   = 30 * time.Second // until it sends a whole answer's headers, which may come with the answer
)

// waitedLongEnough reports whether an attempt without an answer has waited for as long as a
// healthy upstream may need. sent is whether the request had a connection.
func waitedLongEnough(waited time.Duration, sent, stream bool) bool {
	switch {
	case !sent:
		return waited >= connectTime
	case stream:
		return waited >= streamTime
	}
	return waited >= wholeTime
}

// outcomeOf returns what an attempt shows about its upstream; f is nil if the upstream
// answered. An upstream that returns any error of its own is up, unless the error is a
// gateway's report that the upstream behind it is down.
func outcomeOf(f *Failure, clientGone bool) outcome {
	switch {
	case f == nil:
		return isUp
	case clientGone:
		return noEvidence
	case f.Phase.HeadersReceived() && (f.Reason == Timeout || f.Reason == Lost): // the upstream accepted the call: one of its models is slow or broken
		return noEvidence
	case f.Reason == Timeout && !f.HadFairChance: // the timeout was too short to show anything
		return noEvidence
	case f.Reason == Connect, f.Reason == Timeout, f.Reason == Lost:
		return isDown
	case f.Response != nil && isGatewayError(f.Response.Status):
		// An error in the API's own format is about one model; a gateway in front of
		// the API does not use that format.
		if wire.ErrorMessage(gjson.ParseBytes(f.Response.Body)) == "" {
			return isDown
		}
	}
	return isUp
}

// report records the outcome of a call that allow has allowed, as the probe or not. It
// returns whether the breaker has opened, or closed again.
func (b *breaker) report(o outcome, f *Failure, probe bool, now time.Time) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if o == noEvidence && f != nil && f.Reason == Timeout && !f.Phase.HeadersReceived() {
		if b.impatient++; b.impatient >= impatientThreshold {
			o, b.failures = isDown, max(b.failures, BreakAfter-1)
		}
	}
	switch o {
	case isUp:
		closed = b.pause > 0
		b.failures, b.impatient, b.pause = 0, 0, 0
	case isDown:
		b.failures++
		b.last = Failure{Backend: f.Backend, Reason: f.Reason, Detail: f.Detail}
		if b.failures < BreakAfter || b.pause > 0 && !probe { // the call was under way when the breaker opened
			return false, false
		}
		opened = b.pause == 0
		b.pause = min(max(2*b.pause, FirstOpen), maxOpen)
		b.until = now.Add(b.pause)
	case noEvidence:
		if probe {
			b.until = now.Add(b.pause)
		}
	}
	return opened, closed
}

// isGatewayError reports whether a status is that of a gateway whose backend is down.
func isGatewayError(status int) bool {
	return status == 502 || status == 503 || status == 504 || status > 519
}
