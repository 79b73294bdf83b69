package backend

import (
	"context"
	"math"
	"sync"
	"time"
)

// orphanedSlots are the slots of calls that were aborted. llama-server processes the
// prompt of such a call to its end before it frees the slot, and the next call would wait
// inside llama-server. So a slot goes back to the queue once the server says that it is
// free.
type orphanedSlots struct {
	mu        sync.Mutex
	processes map[<-chan struct{}]*processSlots // by the channel that is closed at its end
}

// processSlots are the orphaned slots of one process.
type processSlots struct {
	until []time.Time   // for each, how long its slot may go on; the oldest first
	more  chan struct{} // receives when there are more
}

const (
	probePause    = 50 * time.Millisecond
	maxProbePause = time.Second
	// maxPrefill is how long a slot may go on with a call that was broken off.
	// A long prompt is processed to its end.
	maxPrefill = 2 * time.Minute
)

// add takes over slots, and has them given back.
func (l *orphanedSlots) add(b *Server, gone <-chan struct{}, slots int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.processes == nil {
		l.processes = map[<-chan struct{}]*processSlots{}
	}
	at := l.processes[gone]
	if at == nil {
		at = &processSlots{more: make(chan struct{}, 1)}
		l.processes[gone] = at
		go l.giveBack(b, gone, at)
	}
	for range slots {
		at.until = append(at.until, time.Now().Add(maxPrefill))
	}
	select {
	case at.more <- struct{}{}:
	default:
	}
}

// take removes n slots, or as many as there are, and those whose time is over. none says
// that no others are left.
func (l *orphanedSlots) take(gone <-chan struct{}, at *processSlots, n int) (taken int, none bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(at.until) > 0 && (taken < n || now.After(at.until[0])) {
		at.until = at.until[1:]
		taken++
	}
	if none = len(at.until) == 0; none {
		delete(l.processes, gone)
	}
	return taken, none
}

// giveBack gives the slots of a process back until there are none.
func (l *orphanedSlots) giveBack(b *Server, gone <-chan struct{}, at *processSlots) {
	pause, next := probePause, time.Now().Add(probePause)
	for free := 0; ; next = time.Now().Add(pause) {
		for waiting := true; waiting; {
			select {
			case <-gone:
				n, _ := l.take(gone, at, math.MaxInt)
				b.queue.release(n)
				return
			case <-at.more: // the next probe comes soon, and is not put off by more of them
				if soon := time.Now().Add(probePause); soon.Before(next) {
					next = soon
				}
			case <-time.After(time.Until(next)):
				waiting = false
			}
		}
		before, _, _ := b.queue.load()
		working, known := b.busySlots()
		running, _, _ := b.queue.load()
		seen := min(before, running) - working
		if !known {
			free, seen = math.MaxInt, math.MaxInt
		}
		// A call that was admitted a moment ago has no slot yet, and its slot looks
		// free: only what is free at two probes is.
		n, none := l.take(gone, at, min(free, seen))
		b.queue.release(n)
		if none {
			return
		}
		free = seen - n
		if pause = min(2*pause, maxProbePause); free > 0 {
			pause = probePause
		}
	}
}

// busySlots asks the server how many of its slots are busy.
func (b *Server) busySlots() (n int, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), maxProbePause)
	defer cancel()
	n, err := b.local.BusySlots(ctx)
	if err != nil {
		return math.MaxInt, ctx.Err() != nil // one that does not answer in time is at work
	}
	return n, true
}
