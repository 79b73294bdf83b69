package router

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// ending is how a call ended at its backend.
type ending int

const (
	brokenOff ending = iota // the backend may go on with it for a while
	withError               // it is over there, without an answer
	withAnswer
)

// place is a call's place at a backend, from its admission to its end. All that
// counts calls counts places.
type place struct {
	load   *traffic
	finish func(ending) // nil = it takes no slots
	probe  bool         // whether an upstream is up again depends on this call

	released atomic.Bool
}

// newPlace counts a call that a backend has.
func newPlace(load *traffic, finish func(ending)) *place {
	load.inflight.Add(1)
	load.waiting.Add(1)
	return &place{load: load, finish: finish}
}

// release gives the place back. What counts is how it is called first.
func (p *place) release(how ending) {
	if !p.released.CompareAndSwap(false, true) {
		return
	}
	p.load.waiting.Add(-1)
	p.load.inflight.Add(-1)
	if p.finish != nil {
		p.finish(how)
	}
}

// pause takes the call out of those that wait for the backend, while it waits for
// its client, until resume. It returns false where the call has no place any more;
// there is nothing to resume then.
func (p *place) pause() bool {
	if p.released.Load() {
		return false
	}
	p.load.waiting.Add(-1)
	return true
}

func (p *place) resume() { p.load.waiting.Add(1) }

// slotless are the endpoints that llama-server answers without one of its slots.
var slotless = map[string]bool{
	"/tokenize": true, "/detokenize": true, "/apply-template": true, "/v1/messages/count_tokens": true,
}

// lists are the fields of a body that make a task of llama-server's of each of
// their elements, by the endpoint.
var lists = map[string]string{"/v1/completions": "prompt", "/v1/embeddings": "input", "/v1/rerank": "documents"}

// choiceless are the endpoints that pass over the number of choices.
var choiceless = map[string]bool{"/v1/messages": true, "/v1/embeddings": true, "/v1/rerank": true}

// slotsFor returns how many slots a call takes at the same time, if there are as
// many. llama-server makes a task of each choice, and begins with none of them
// before it has a slot for all; and one of each prompt. Seen with build 11669.
func slotsFor(c *request.Request) int {
	n := 1
	if !choiceless[c.Path] && bytes.Contains(c.Body.Raw, []byte(`"n"`)) { // cheaper than to parse a body that has none
		n = int(min(max(gjson.GetBytes(c.Body.Raw, "n").Int(), 1), aggregate.MaxChoices))
	}
	if field := lists[c.Path]; field != "" {
		n *= min(max(tasks(gjson.GetBytes(c.Body.Raw, field)), 1), aggregate.MaxChoices)
	}
	return n
}

// tasks counts the elements of a list that are a task each. A list of tokens, or
// one of tokens and texts, is one prompt.
func tasks(list gjson.Result) int {
	if !list.IsArray() {
		return 1
	}
	n, tokens := 0, false
	list.ForEach(func(_, element gjson.Result) bool {
		tokens = tokens || element.Type == gjson.Number
		n++
		return true
	})
	if tokens {
		return 1
	}
	return n
}

// alternative says for which reasons a call may move to the next candidate of its
// plan. The zero value: there is no next candidate.
type alternative struct {
	exists bool
	route  models.Route
}

func (a alternative) allows(reason Reason) bool { return a.exists && mayFallBack(a.route, reason) }

// takes says whether a server in this state is given a call. A degraded one is
// given those that have no alternative.
func (s LocalState) takes(other alternative) bool {
	return s.Reason == "" || s.Alive && !other.allows(s.Reason)
}

// bypassed says whether a call does not even wait for a server in this state.
func (s LocalState) bypassed(other alternative) bool {
	return !s.takes(other) && (other.allows(s.Reason) || !s.Returning)
}

// capacity is what the slot queue needs to know of a state.
func (s LocalState) capacity() capacity {
	return capacity{open: s.Reason == "" || s.Alive, slots: s.Slots}
}

// admit waits until the server takes the call and has its slots free, for as long
// as ctx lasts. A call that has an alternative moves there rather than wait for a
// server that takes no calls, or in a queue whose estimated wait is longer than
// patience.
func (b *localBackend) admit(ctx context.Context, c *request.Request, other alternative, patience time.Duration) (*place, *failure) {
	for {
		at, failed := b.awaitSlots(ctx, c, other, patience)
		if failed != nil {
			return nil, failed
		}
		// The call is counted first, and the state read afterwards: a drain that
		// counts no calls has none on their way.
		now := b.local.State()
		if now.takes(other) {
			return at, nil
		}
		at.release(withError)
		if now.bypassed(other) {
			return nil, now.Failure(now.Detail)
		}
	}
}

// awaitSlots waits in the queue until the server is there and has slots free.
func (b *localBackend) awaitSlots(ctx context.Context, c *request.Request, other alternative, patience time.Duration) (*place, *failure) {
	now := b.local.State()
	slots := 0
	if !slotless[c.Path] {
		slots = slotsFor(c)
	}
	switch {
	case now.takes(other) && (now.Slots == 0 || slots == 0):
		return newPlace(&b.traffic, nil), nil
	case now.bypassed(other):
		return nil, now.Failure(now.Detail)
	}
	w, wait, ok := b.queue.enqueue(slots, other.allows(Saturated), patience)
	switch {
	case !ok && !now.takes(other):
		failed := now.Failure(now.Detail + ", and as many calls wait for it as may")
		failed.retryAfter += int(wait / time.Second)
		return nil, failed
	case !ok:
		return nil, &failure{
			reason: Saturated, detail: "has all slots busy and its queue full", unwaited: true,
			retryAfter: max(int(wait.Round(time.Second)/time.Second), 1),
		}
	}
	for {
		select {
		case <-w.granted:
			return b.placeAt(b.local.State().Gone, w.slots), nil
		case <-ctx.Done():
			b.queue.cancel(w)
			if now = b.local.State(); !now.takes(other) {
				return nil, now.Failure(fmt.Sprintf("%s, and took no call within %s", now.Detail, patience))
			}
			return nil, &failure{reason: Saturated, detail: fmt.Sprintf("had no slot free within %s", patience), retryAfter: wire.RetrySoon}
		case <-b.stopping:
			b.queue.cancel(w)
			if now = b.local.State(); !now.takes(other) {
				return nil, now.Failure(now.Detail + ", and llmsup is stopping")
			}
			return nil, &failure{reason: Saturated, detail: "has all slots busy, and llmsup is stopping", retryAfter: wire.RetrySoon}
		case <-now.Changed:
			if now = b.local.State(); now.bypassed(other) {
				b.queue.cancel(w)
				return nil, now.Failure(now.Detail)
			}
			b.queue.update()
		}
	}
}

// Failure is that of a call which the server, in this state, did not take.
func (s LocalState) Failure(detail string) *failure {
	return &failure{reason: s.Reason, detail: detail, retryAfter: s.retryAfter(time.Now()), unwaited: s.Returning}
}

// retryLater is the Retry-After for a server that only an operator brings back, in
// seconds.
const retryLater = 60

// retryAfter returns in how many seconds a call is worth another try.
func (s LocalState) retryAfter(now time.Time) int {
	switch left := s.ReadyAt.Sub(now); {
	case left > 0:
		return int((left + time.Second - 1) / time.Second)
	case s.Returning:
		return wire.RetrySoon
	}
	return retryLater
}

// placeAt makes a place at the process whose end gone tells of, which takes so
// many of the queue's slots.
func (b *localBackend) placeAt(gone <-chan struct{}, slots int) *place {
	began := time.Now()
	return newPlace(&b.traffic, func(how ending) {
		switch how {
		case brokenOff:
			b.leftovers.add(b, gone, slots)
			return
		case withAnswer:
			b.queue.served(time.Since(began))
		case withError: // how soon a server refuses says nothing of how long it answers
		}
		b.queue.release(slots)
	})
}
