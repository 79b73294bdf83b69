package feed

import (
	"slices"
	"time"
)

const (
	// rateWindow is the time over which tokens per second are averaged.
	rateWindow = 10 * time.Second
	// firstTokenWindow is how long a call's first token counts.
	firstTokenWindow = 15 * time.Minute
)

// EndedCall is a call that has ended.
type EndedCall struct {
	ID          string
	Backend     string
	Ended       time.Time
	FirstAnswer time.Duration // 0 = there was none
	Tokens      int64         // of its answer; 0 = unknown, too
}

// Rates computes the speed of each server from what its calls have received. It is used by
// one goroutine.
type Rates struct {
	last   time.Time
	seen   map[string]int64    // tokens of the calls that were in flight at last, by ID
	counts map[string][]tokens // by server, of the last rateWindow
}

// tokens are those that a server's calls received until some time.
type tokens struct {
	at time.Time
	n  int64
}

// Speed is a server's; nil = unknown, or it had no call lately.
type Speed struct {
	TokensPerSecond *float64 // in the last ten seconds
	FirstTokenP50   *float64 // seconds; the median of the last 15 minutes
}

// Observe returns the speed of each server. ended are the last calls that ended, the last
// first.
func (r *Rates) Observe(now time.Time, inFlight []Call, ended []EndedCall) map[string]Speed {
	received := map[string]int64{} // since last, by server
	seen := map[string]int64{}
	for _, c := range inFlight {
		received[c.Backend] += max(c.Tokens-r.seen[c.ID], 0)
		seen[c.ID] = c.Tokens
	}
	first := map[string][]float64{}
	for _, e := range ended {
		before, ran := r.seen[e.ID]
		if ran || e.Ended.After(r.last) {
			received[e.Backend] += max(e.Tokens-before, 0)
		}
		if e.FirstAnswer > 0 && now.Sub(e.Ended) <= firstTokenWindow {
			first[e.Backend] = append(first[e.Backend], e.FirstAnswer.Seconds())
		}
	}
	speeds := map[string]Speed{}
	for server, all := range first {
		slices.Sort(all)
		speeds[server] = Speed{FirstTokenP50: &all[len(all)/2]}
	}
	if now.Sub(r.last) <= rateWindow {
		r.count(now, received, speeds)
	} else { // no page was open meanwhile
		r.counts = map[string][]tokens{}
	}
	r.last, r.seen = now, seen
	return speeds
}

// count adds what was received since last, and sets the servers' tokens per second.
func (r *Rates) count(now time.Time, received map[string]int64, speeds map[string]Speed) {
	for server, n := range received {
		if r.counts[server] == nil && n > 0 {
			r.counts[server] = []tokens{{r.last, 0}}
		}
	}
	for server, all := range r.counts {
		all = slices.DeleteFunc(all, func(t tokens) bool { return now.Sub(t.at) > rateWindow })
		sum := received[server]
		for _, t := range all[1:] { // the first one's were received before
			sum += t.n
		}
		if sum == 0 {
			delete(r.counts, server)
			continue
		}
		s := speeds[server]
		s.TokensPerSecond = new(float64(sum) / now.Sub(all[0].at).Seconds())
		speeds[server] = s
		r.counts[server] = append(all, tokens{now, received[server]})
	}
}
