package ledger

import (
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// entry is a row on its way to the disk. Hundreds wait at a time, and the garbage
// collector looks at each some ten times before it is written: it is small, and
// has few pointers.
type entry struct {
	id      int64 // its own, for ever
	time    int64 // when the call came, Unix milliseconds
	kind    *kind // that of others, too
	request string

	prompt, cached, completion figure // tokens
	cost, charged, saved       figure // picodollars; charged is unknown where it is cost
	first, took                int64  // milliseconds; first 0 = there was no answer

	born    time.Time     // when it was recorded, by the monotonic clock
	durable chan struct{} // closed when it is; nil where nobody waits
	pending []*Pending    // that it ends

	// The ledger's mutex guards what follows.
	safe     bool // durable
	spilling bool // the spiller has it
	refused  bool // the spiller could not write it
	tried    bool // the committer had it, and can't say what became of it
}

// newEntry makes a row one that can be written anywhere, added up, and read back
// as it was. Its kind and its id are still to be given.
func newEntry(r *Row) *entry {
	e := &entry{
		time: max(r.Time.UnixMilli(), 0), request: trim(r.Request),
		prompt: figureOf(r.Prompt, maxTokens), cached: figureOf(r.Cached, maxTokens), completion: figureOf(r.Completed, maxTokens),
		cost: figureOf(r.Cost, usd.Most), charged: figureOf(r.Charged, usd.Most), saved: figureOf(r.Saved, usd.Most),
		first: max(r.First.Milliseconds(), 0), took: max(r.Took.Milliseconds(), 0),
	}
	if e.cached > e.prompt && e.prompt != unknown { // it would be a part of it
		e.cached = unknown
	}
	return e
}

// row is the other way: what is written beside the database.
func (e *entry) row() Row {
	k := e.kind
	return Row{
		Time: time.UnixMilli(e.time), Request: e.request, Key: k.key, Route: k.route, Model: k.model, Backend: k.backend, Served: k.served,
		Reason: k.reason, Status: k.status, Stream: k.stream, Local: k.local, Meant: k.meant, Paid: k.paid, Resumed: k.resumed, Partial: k.partial,
		Prompt: pointer[int64](e.prompt), Cached: pointer[int64](e.cached), Completed: pointer[int64](e.completion),
		Cost: pointer[usd.Amount](e.cost), Charged: pointer[usd.Amount](e.charged), Saved: pointer[usd.Amount](e.saved),
		First: time.Duration(e.first) * time.Millisecond, Took: time.Duration(e.took) * time.Millisecond,
	}
}

// day returns the number of a row's day since 1970.
func (e *entry) day() int64 { return e.time / dayLength }

// rank puts those first that somebody waits for.
func (e *entry) rank() int {
	if e.durable != nil {
		return 0
	}
	return 1
}

// figure is a number of a row, or unknown.
type figure int64

const (
	unknown figure = -1
	// maxTokens is more than any call has. What is said above it is not known.
	maxTokens = 1 << 40
)

func figureOf[T int64 | usd.Amount](n *T, most T) figure {
	if n == nil || *n < 0 || *n > most {
		return unknown
	}
	return figure(*n)
}

func pointer[T int64 | usd.Amount](n figure) *T {
	if n == unknown {
		return nil
	}
	return new(T(n))
}
