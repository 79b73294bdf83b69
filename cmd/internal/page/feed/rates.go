package feed

import (
	"slices"
	"sync"
	"time"
)

const (
	// rateWindow is the time over which tokens per second are averaged.
	rateWindow = 10 * time.Second
	// firstTokenWindow is how long a call's first token counts.
	firstTokenWindow = 15 * time.Minute
)

// Output is what a local server has answered so far.
type Output struct {
	Tokens int64         // content events of all answers so far; it only grows
	Busy   bool          // it is working on a call
	First  []FirstAnswer // of the last calls
}

// FirstAnswer is how long a call waited for its first token.
type FirstAnswer struct {
	At   time.Time
	Took time.Duration
}

// rates computes the speed of each server from its counters.
type rates struct {
	mu      sync.Mutex
	servers map[string][]count // of the last rateWindow
}

// count is a counter at one time.
type count struct {
	at     time.Time
	tokens int64
}

func newRates() *rates { return &rates{servers: map[string][]count{}} }

// observe returns the tokens per second of the last ten seconds, and the median of the time
// to the first token; nil = there was no call.
func (r *rates) observe(now time.Time, server string, o Output) (perSecond, p50 *float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := slices.DeleteFunc(r.servers[server], func(c count) bool { return now.Sub(c.at) > rateWindow || c.tokens > o.Tokens })
	if len(counts) > 0 {
		if first := counts[0]; now.After(first.at) && (o.Busy || o.Tokens > first.tokens) {
			rate := float64(o.Tokens-first.tokens) / now.Sub(first.at).Seconds()
			perSecond = &rate
		}
	}
	r.servers[server] = append(counts, count{now, o.Tokens})
	return perSecond, median(now, o.First)
}

func median(now time.Time, answers []FirstAnswer) *float64 {
	var seconds []float64
	for _, a := range answers {
		if now.Sub(a.At) <= firstTokenWindow {
			seconds = append(seconds, a.Took.Seconds())
		}
	}
	if len(seconds) == 0 {
		return nil
	}
	slices.Sort(seconds)
	return &seconds[len(seconds)/2]
}
