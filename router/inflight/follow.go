package inflight

import "github.com/llmsup/llmsup/router/ledger"

// Event says that a call has begun, or has ended.
type Event struct {
	Call  Snapshot    // of a call that has begun
	Ended *ledger.Row // of a call that has ended, which must not be changed; nil = Call has begun
	Lost  int         // events before this one that the follower was too slow for
}

// Follower receives the events of a Registry. No call waits for it.
type Follower struct {
	Events   <-chan Event
	events   chan Event
	lost     int
	registry *Registry
}

// followerBuffer is how many events a follower may be behind.
const followerBuffer = 1024

// Follow returns a follower of later events. The caller has to close it.
func (r *Registry) Follow() *Follower {
	events := make(chan Event, followerBuffer)
	f := &Follower{Events: events, events: events, registry: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.followers == nil {
		r.followers = map[*Follower]struct{}{}
	}
	r.followers[f] = struct{}{}
	return f
}

// Close ends the events. The channel stays open.
func (f *Follower) Close() {
	f.registry.mu.Lock()
	defer f.registry.mu.Unlock()
	delete(f.registry.followers, f)
}

// publish sends an event to the followers. The caller holds the lock.
func (r *Registry) publish(e Event) {
	for f := range r.followers {
		e.Lost = f.lost
		select {
		case f.events <- e:
			f.lost = 0
		default:
			f.lost++
		}
	}
}
