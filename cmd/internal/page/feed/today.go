package feed

import (
	"context"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

const (
	// todayInterval is the shortest time between two sums of the day's calls, which a
	// large ledger takes a while for.
	todayInterval = 5 * time.Second
	// todayMaxAge is the longest time between them, for a day that begins.
	todayMaxAge  = time.Minute
	todayTimeout = 20 * time.Second
)

// Today is the section of the day's calls, in UTC, like the windows of budgets.
type Today struct {
	Since            time.Time    `json:"since"`
	Calls            *int64       `json:"calls"` // null = unknown
	LocalCalls       *int64       `json:"local_calls"`
	CloudCalls       *int64       `json:"cloud_calls"` // answered, and not by a server of llmsup's own
	Paid             *control.USD `json:"paid_usd"`
	Saved            *control.USD `json:"saved_usd"`
	CallsUnknownCost *int64       `json:"calls_unknown_cost"`
	UnknownSaved     *int64       `json:"unknown_saved"` // local calls, of unknown price
}

// today adds up the day's calls when there were new ones, without delaying the feed.
type today struct {
	add              func(ctx context.Context, from, to time.Time, by string) (control.Usage, error)
	interval, maxAge time.Duration // the shortest and the longest time between two sums

	mu    sync.Mutex
	due   chan struct{}
	calls int64 // that had ended at the last request
	asked time.Time
	since time.Time
	usage *control.Usage // by key; nil = unknown
}

// run adds up the calls on request until ctx ends.
func (t *today) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.requests():
		}
		since := time.Now().UTC().Truncate(24 * time.Hour)
		limited, cancel := context.WithTimeout(ctx, todayTimeout)
		u, err := t.add(limited, since, time.Time{}, "key")
		cancel()
		t.mu.Lock()
		t.since, t.usage = since, &u
		if err != nil { // the ledger is off, or cannot be read
			t.usage = nil
		}
		t.mu.Unlock()
	}
}

func (t *today) requests() chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.due == nil {
		t.due = make(chan struct{}, 1)
	}
	return t.due
}

// ended says how many calls have ended so far, and requests sums if they are due.
func (t *today) ended(calls int64, now time.Time) {
	due := t.requests()
	t.mu.Lock()
	defer t.mu.Unlock()
	age := now.Sub(t.asked)
	if age < t.interval || calls == t.calls && age < t.maxAge {
		return
	}
	t.asked, t.calls = now, calls
	select {
	case due <- struct{}{}:
	default:
	}
}

// of returns the sums of a Viewer.
func (t *today) of(v Viewer) Today {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Today{Since: t.since}
	if t.usage == nil {
		if s.Since.IsZero() {
			s.Since = time.Now().UTC().Truncate(24 * time.Hour)
		}
		return s
	}
	sums := t.usage.Total
	if !v.Operator {
		sums = control.Sums{}
		for _, g := range t.usage.Groups {
			if g.Name == v.Key {
				sums = g.Sums
			}
		}
	}
	cloud := max(sums.Calls-sums.Local-sums.Failed, 0)
	s.Calls, s.LocalCalls, s.CloudCalls, s.CallsUnknownCost = &sums.Calls, &sums.Local, &cloud, &sums.UnknownCost
	s.Paid, s.Saved, s.UnknownSaved = sums.Cost, sums.Saved, &sums.UnknownSaved
	return s
}
