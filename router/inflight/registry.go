package inflight

import (
	"sync"

	"github.com/llmsup/llmsup/router/ledger"
)

// Registry has the calls in flight, and the last ones that ended. Its zero value is empty. It
// is safe for concurrent use: a reader holds its lock only to copy pointers.
type Registry struct {
	mu             sync.Mutex
	oldest, newest *Call // a list
	n              int
	ended          [keptEnded]ledger.Row // a ring
	endedTotal     int
	followers      map[*Follower]struct{}
}

// keptEnded is how many calls that have ended are kept.
const keptEnded = 500

// Add enters a call. canceler ends it.
func (r *Registry) Add(c *Call, canceler Canceler) {
	c.canceler = canceler // no other goroutine knows the call yet
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.older = r.newest; c.older != nil {
		c.older.newer = c
	} else {
		r.oldest = c
	}
	r.newest = c
	r.n++
	if len(r.followers) > 0 {
		r.publish(Event{Call: c.Snapshot()})
	}
}

// Remove removes a call that has ended. row is its row in the ledger.
func (r *Registry) Remove(c *Call, row *ledger.Row) {
	c.mu.Lock()
	c.canceler = nil
	c.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		r.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		r.newest = c.older
	}
	r.n--
	r.ended[r.endedTotal%keptEnded] = *row
	r.endedTotal++
	if len(r.followers) > 0 {
		r.publish(Event{Ended: new(*row)})
	}
}

// Len returns how many calls are in flight.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// calls returns the calls in flight, in the order of their arrival.
func (r *Registry) calls() []*Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Call, 0, r.n)
	for c := r.oldest; c != nil; c = c.newer {
		list = append(list, c)
	}
	return list
}

// Snapshot returns the calls in flight, in the order of their arrival.
func (r *Registry) Snapshot() []Snapshot {
	calls := r.calls()
	list := make([]Snapshot, len(calls))
	for i, c := range calls {
		list[i] = c.Snapshot()
	}
	return list
}

// Ended returns up to n calls that have ended, the last first. keptEnded are there.
func (r *Registry) Ended(n int) []ledger.Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, r.endedTotal, keptEnded)
	list := make([]ledger.Row, 0, n)
	for i := range n {
		list = append(list, r.ended[(r.endedTotal-1-i)%keptEnded])
	}
	return list
}

// Cancel ends the call with an id or, if there is none, those whose X-Request-Id it is. It
// returns them as they were before. A call of another box stays: that box would move it on. box is
// the one that can cancel it.
func (r *Registry) Cancel(id string) (cancelled []Snapshot, box string) {
	calls := r.calls()
	is := func(c *Call) bool { return c.Request == id }
	if own, err := ledger.ParseCallID(id); err == nil {
		for _, c := range calls {
			if c.ID() == own {
				is = func(other *Call) bool { return other == c }
			}
		}
	}
	for _, c := range calls {
		if !is(c) {
			continue
		}
		if c.FromBox != "" {
			box = c.FromBox
			continue
		}
		if before := c.Snapshot(); c.cancel() {
			cancelled = append(cancelled, before)
		}
	}
	return cancelled, box
}
