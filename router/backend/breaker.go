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
// A probe that says nothing leaves it open for the same pause: else one caller after
// another would wait for an upstream that hangs. A caller in haste who was not heard
// says little, but impatientThreshold of them, with no answer to anybody between, say that
// it is down.
//
// The zero value is closed.
type breaker struct {
	mu        sync.Mutex
	failures  int           // in a row
	impatient int           // timeouts without a fair chance since the last answer
	pause     time.Duration // of the present opening; 0 = closed
	until     time.Time     // when it may be tried again
	probing   bool          // half-open, and a call tries it
	last      Failure       // the newest one
}

const (
	// BreakAfter is how many failures in a row open a breaker, FirstOpen for how long
	// it stays open the first time.
	BreakAfter         = 5
	impatientThreshold = 3 * BreakAfter
	FirstOpen          = 5 * time.Second
	maxOpen            = time.Minute
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
func (b *breaker) shut(now time.Time) (last *Failure, left time.Duration) {
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

// outcome is how a call went, as far as it tells of its upstream.
type outcome int

const (
	noEvidence outcome = iota // the client left, say
	isUp
	isDown
)

// How long a healthy upstream may be silent. A shorter timeout of one call is no evidence
// for the others.
const (
	connectNeeds = 3 * time.Second  // until it takes a connection
	streamNeeds  = 10 * time.Second // until it sends a stream's head: those who think for longer send it before
	wholeNeeds   = 30 * time.Second // until it sends a whole answer's head: that may come with the answer
)

// isFair says whether an attempt without an answer has waited for as long as a healthy
// upstream may need. sent: it had a connection.
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
func outcomeOf(f *Failure, left bool) outcome {
	switch {
	case f == nil:
		return isUp
	case left:
		return noEvidence
	case f.Phase.HeadersReceived() && (f.Reason == Timeout || f.Reason == Lost): // it took the call: one of its models is slow, or breaks
		return noEvidence
	case f.Reason == Timeout && !f.HadFairChance: // its caller was in a hurry
		return noEvidence
	case f.Reason == Connect, f.Reason == Timeout, f.Reason == Lost:
		return isDown
	case f.Response != nil && isGatewayError(f.Response.Status):
		// In the API's own words it speaks of one model; a gateway before it does not
		// know those.
		if wire.ErrorMessage(gjson.ParseBytes(f.Response.Body)) == "" {
			return isDown
		}
	}
	return isUp
}

// report tells how a call went that enter had let in, as the probe or not. It
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
		if b.failures < BreakAfter || b.pause > 0 && !probe { // those were under way when it opened
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

// isGatewayError says whether a status is that of a gateway whose backend is down.
func isGatewayError(status int) bool {
	return status == 502 || status == 503 || status == 504 || status > 519
}
