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

// place is a call's place at a backend, from its admission to its end. All that
// counts calls counts places.
type place struct {
	load   *traffic
	finish func(whole bool) // nil = there is no gate
	probe  bool             // whether an upstream is up again depends on this call

	mu       sync.Mutex
	released bool
}

// newPlace counts a call that a backend has.
func newPlace(load *traffic, finish func(whole bool)) *place {
	load.inflight.Add(1)
	load.waiting.Add(1)
	return &place{load: load, finish: finish}
}

// release gives the place back. whole says that the backend has done with the
// call; one that was broken off may go on there for a while.
func (p *place) release(whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	p.load.waiting.Add(-1)
	p.load.inflight.Add(-1)
	if p.finish != nil {
		p.finish(whole)
	}
}

// pause takes the call out of those that wait for the backend, while it waits for
// its client, until what it returns is called.
func (p *place) pause() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return func() {}
	}
	p.load.waiting.Add(-1)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.load.waiting.Add(1)
	}
}

// slotless are the endpoints that llama-server answers without one of its slots.
var slotless = map[string]bool{
	"/tokenize": true, "/detokenize": true, "/apply-template": true, "/v1/messages/count_tokens": true,
}

// admit waits for one of the server's slots: for as long as ctx lasts, unless
// the server takes no calls any more. A call that may move is not kept waiting
// for longer than it has patience.
func (b *localBackend) admit(ctx context.Context, c *call, mayMove bool, patience time.Duration) (*place, *failure) {
	now := b.local.State()
	if now.Slots == 0 || slotless[c.path] { // nobody knows how many there are, or it takes none
		return b.unlessLeaving(newPlace(&b.traffic, nil), mayMove)
	}
	t, wait, ok := b.gate.join(now.Slots, mayMove, patience)
	if !ok {
		return nil, &failure{
			reason: Saturated, detail: "has all slots taken, and a queue that is too long",
			retryAfter: max(int(wait.Round(time.Second)/time.Second), 1),
		}
	}
	for {
		select {
		case <-t.granted:
			return b.unlessLeaving(b.placeAt(now.Gone), mayMove)
		case <-ctx.Done():
			b.abandon(t)
			return nil, &failure{reason: Saturated, detail: "had no slot free in time"}
		case <-now.Changed:
			if now = b.local.State(); now.Reason != "" && (mayMove || !now.Alive) {
				b.abandon(t)
				return nil, &failure{reason: now.Reason, detail: now.Detail, retryAfter: retrySoon}
			}
			b.gate.resize(now.Slots)
		}
	}
}

// unlessLeaving gives a place back where the server has begun to drain since the
// call chose it. Whoever drains it sees no call before it sees none at all: a call
// is counted first and looks at the state afterwards.
func (b *localBackend) unlessLeaving(p *place, mayMove bool) (*place, *failure) {
	now := b.local.State()
	if now.Reason == "" || now.Alive && !mayMove {
		return p, nil
	}
	p.release(true)
	return nil, &failure{reason: now.Reason, detail: now.Detail, retryAfter: retrySoon}
}

func (b *localBackend) abandon(t *ticket) {
	if !b.gate.leave(t) {
		b.gate.giveBack(b.local.State().Slots, 0, false)
	}
}

// placeAt makes a place at the process whose end gone tells of.
func (b *localBackend) placeAt(gone <-chan struct{}) *place {
	began := time.Now()
	return newPlace(&b.traffic, func(whole bool) {
		if whole {
			b.gate.giveBack(b.local.State().Slots, time.Since(began), true)
			return
		}
		go func() {
			b.awaitFreeSlot(gone)
			b.gate.giveBack(b.local.State().Slots, 0, false)
		}()
	})
}

const (
	slotLook     = 50 * time.Millisecond
	slotLookMost = time.Second
	// slotPatience is how long a slot may go on with a call that was broken off.
	// A long prompt is processed to its end.
	slotPatience = 2 * time.Minute
)

// awaitFreeSlot waits until the server has a slot free that is counted as taken:
// a call that was broken off while its prompt was processed holds its slot until
// that is done, and whoever came after would wait inside of llama-server.
func (b *localBackend) awaitFreeSlot(gone <-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), slotPatience)
	defer cancel()
	for pause := slotLook; ; pause = min(2*pause, slotLookMost) {
		select {
		case <-gone:
			return
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		working, known := b.working(ctx)
		running, _ := b.gate.load()
		if !known || working < running {
			return
		}
	}
}

// working asks the server how many of its slots work.
func (b *localBackend) working(ctx context.Context) (n int, known bool) {
	ctx, cancel := context.WithTimeout(ctx, slotLookMost)
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
