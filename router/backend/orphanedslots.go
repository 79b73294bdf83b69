package backend

import (
	"context"
	"math"
	"sync"
	"time"
)

// orphanedSlots are the slots of aborted calls. llama-server processes the whole prompt
// of such a call before it frees the slot, and the next call would wait inside
// llama-server. So a slot is released to the queue only once the server reports it free.
type orphanedSlots struct {
	mu        sync.Mutex
	processes map[<-chan struct{}]*processSlots // by the channel that is closed when the process exits
}

// processSlots are the orphaned slots of one process.
type processSlots struct {
	deadlines []time.Time   // when each slot is released at the latest; the earliest first
	added     chan struct{} // receives when slots are added
}

const (
	probePause    = 50 * time.Millisecond
	maxProbePause = time.Second
	// maxPrefill is the longest time until an orphaned slot is assumed to be free:
	// llama-server processes a long prompt of an aborted call to its end.
	maxPrefill = 2 * time.Minute
)

// add adds slots of an aborted call, to be released once they are free.
func (l *orphanedSlots) add(b *Server, gone <-chan struct{}, slots int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.processes == nil {
		l.processes = map[<-chan struct{}]*processSlots{}
	}
	at := l.processes[gone]
	if at == nil {
		at = &processSlots{added: make(chan struct{}, 1)}
		l.processes[gone] = at
		go l.releaseWhenFree(b, gone, at)
	}
	for range slots {
		at.deadlines = append(at.deadlines, time.Now().Add(maxPrefill))
	}
	select {
	case at.added <- struct{}{}:
	default:
	}
}

// remove removes n slots, or as many as there are, and those past their deadline. none is
// whether no slots are left.
func (l *orphanedSlots) remove(gone <-chan struct{}, at *processSlots, n int) (removed int, none bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for len(at.deadlines) > 0 && (removed < n || now.After(at.deadlines[0])) {
		at.deadlines = at.deadlines[1:]
		removed++
	}
	if none = len(at.deadlines) == 0; none {
		delete(l.processes, gone)
	}
	return removed, none
}

// releaseWhenFree releases the slots of a process as the server frees them, until none
// are left.
func (l *orphanedSlots) releaseWhenFree(b *Server, gone <-chan struct{}, at *processSlots) {
	pause, next := probePause, time.Now().Add(probePause)
	for free := 0; ; next = time.Now().Add(pause) {
		for waiting := true; waiting; {
			select {
			case <-gone:
				n, _ := l.remove(gone, at, math.MaxInt)
				b.queue.release(n)
				return
			case <-at.added: // probe soon, and do not postpone a probe that is already due sooner
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
		// A call that was admitted a moment ago does not occupy its slot in the server
		// yet. So only slots that are free at two probes in a row are released.
		n, none := l.remove(gone, at, min(free, seen))
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

// busySlots returns how many slots of the server are busy.
func (b *Server) busySlots() (n int, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), maxProbePause)
	defer cancel()
	n, err := b.local.BusySlots(ctx)
	if err != nil {
		return math.MaxInt, ctx.Err() != nil // a server that does not answer in time is busy
	}
	return n, true
}
