package router

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
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
	finish func(ending) // nil = there is no gate
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
func (c *call) slotsFor() int {
	n := 1
	if !choiceless[c.path] && bytes.Contains(c.body.raw, []byte(`"n"`)) { // cheaper than to parse a body that has none
		n = int(min(max(gjson.GetBytes(c.body.raw, "n").Int(), 1), maxChoices))
	}
	if field := lists[c.path]; field != "" {
		n *= min(max(tasks(gjson.GetBytes(c.body.raw, field)), 1), maxChoices)
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

// admit waits for the slots that a call takes: for as long as ctx lasts, unless
// the server takes no calls any more. A call that may move is not kept waiting
// for longer than it has patience.
func (b *localBackend) admit(ctx context.Context, c *call, mayMove bool, patience time.Duration) (*place, *failure) {
	now := b.local.State()
	if now.Slots == 0 || slotless[c.path] { // nobody knows how many there are, or it takes none
		return b.unlessLeaving(newPlace(&b.traffic, nil), mayMove)
	}
	t, wait, ok := b.gate.join(now.Slots, c.slotsFor(), mayMove, patience)
	if !ok {
		return nil, &failure{
			reason: Saturated, detail: "has all slots taken, and a queue that is too long", unwaited: true,
			retryAfter: max(int(wait.Round(time.Second)/time.Second), 1),
		}
	}
	for {
		select {
		case <-t.granted:
			return b.unlessLeaving(b.placeAt(now.Gone, t.places), mayMove)
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
	p.release(withError)
	return nil, &failure{reason: now.Reason, detail: now.Detail, retryAfter: retrySoon}
}

func (b *localBackend) abandon(t *ticket) {
	slots := b.local.State().Slots
	if !b.gate.leave(t, slots) {
		b.gate.giveBack(slots, t.places)
	}
}

// placeAt makes a place at the process whose end gone tells of, which takes so
// many of the gate's.
func (b *localBackend) placeAt(gone <-chan struct{}, places int) *place {
	began := time.Now()
	return newPlace(&b.traffic, func(how ending) {
		switch how {
		case brokenOff:
			b.leftovers.add(b, gone, places)
			return
		case withAnswer:
			b.gate.took(time.Since(began))
		case withError: // how soon a server refuses says nothing of how long it answers
		}
		b.gate.giveBack(b.local.State().Slots, places)
	})
}
