package router

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"sync"
	"time"
)

// leftovers are the queue's slots of calls that were broken off. One that was
// broken off while its prompt was processed holds its slot until that is done, and
// whoever came after would wait inside of llama-server. So they are given back as
// the server says that it has slots free, as many as it has.
type leftovers struct {
	mu        sync.Mutex
	processes map[<-chan struct{}]*leftAt // by what tells of their end
}

// leftAt are those at one process.
type leftAt struct {
	until []time.Time   // for each, how long its slot may go on; the oldest first
	more  chan struct{} // receives when there are more
}

const (
	slotLook     = 50 * time.Millisecond
	slotLookMost = time.Second
	// slotPatience is how long a slot may go on with a call that was broken off.
	// A long prompt is processed to its end.
	slotPatience = 2 * time.Minute
)

// add takes over places, and sees to it that they are given back.
func (l *leftovers) add(b *localBackend, gone <-chan struct{}, places int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.processes == nil {
		l.processes = map[<-chan struct{}]*leftAt{}
	}
	at := l.processes[gone]
	if at == nil {
		at = &leftAt{more: make(chan struct{}, 1)}
		l.processes[gone] = at
		go l.giveBack(b, gone, at)
	}
	for range places {
		at.until = append(at.until, time.Now().Add(slotPatience))
	}
	select {
	case at.more <- struct{}{}:
	default:
	}
}

// take takes n places out, or as many as there are, and those whose time is over.
// none says that no others are left, and that whoever comes begins anew.
func (l *leftovers) take(gone <-chan struct{}, at *leftAt, n int) (taken int, none bool) {
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

// giveBack gives the places at a process back until there are none.
func (l *leftovers) giveBack(b *localBackend, gone <-chan struct{}, at *leftAt) {
	pause, next := slotLook, time.Now().Add(slotLook)
	for free := 0; ; next = time.Now().Add(pause) {
		for waiting := true; waiting; {
			select {
			case <-gone:
				n, _ := l.take(gone, at, math.MaxInt)
				b.queue.release(n)
				return
			case <-at.more: // looked for soon, and not later because of more still
				if soon := time.Now().Add(slotLook); soon.Before(next) {
					next = soon
				}
			case <-time.After(time.Until(next)):
				waiting = false
			}
		}
		before, _ := b.queue.load()
		working, known := b.working()
		running, _ := b.queue.load()
		seen := min(before, running) - working
		if !known {
			free, seen = math.MaxInt, math.MaxInt
		}
		// A call that was let in a moment ago has no slot yet, and looks like a free
		// one: only what is free at two looks is.
		n, none := l.take(gone, at, min(free, seen))
		b.queue.release(n)
		if none {
			return
		}
		free = seen - n
		if pause = min(2*pause, slotLookMost); free > 0 {
			pause = slotLook
		}
	}
}

// working asks the server how many of its slots work.
func (b *localBackend) working() (n int, known bool) {
	ctx, cancel := context.WithTimeout(context.Background(), slotLookMost)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://llama-server/slots", nil)
	if err != nil {
		return 0, false
	}
	req.Header.Set("Authorization", "Bearer "+b.local.State().Key)
	resp, err := b.client.RoundTrip(req)
	if err != nil {
		return math.MaxInt, ctx.Err() != nil // one that does not answer in time is at work
	}
	defer resp.Body.Close()
	var slots []struct {
		Processing bool `json:"is_processing"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&slots) != nil {
		return 0, false
	}
	for _, slot := range slots {
		if slot.Processing {
			n++
		}
	}
	return n, true
}
