package ledger

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Row is what is written down of one call. It holds no prompt, no answer and no
// key. A nil figure is not known.
type Row struct {
	Time      time.Time `json:"-"`                 // when the call came; to the millisecond
	Request   string    `json:"request"`           // its id; a client may use one twice
	Key       string    `json:"key,omitempty"`     // the name of its caller's key; "" = none
	Route     string    `json:"route,omitempty"`   // the pattern that matched
	Model     string    `json:"model,omitempty"`   // as the caller named it
	Backend   string    `json:"backend,omitempty"` // who answered; "" = nobody
	Served    string    `json:"served,omitempty"`  // the model's name there
	Reason    string    `json:"reason,omitempty"`  // why not the primary; "" = it did
	Status    int       `json:"status"`            // HTTP status
	Stream    bool      `json:"stream,omitempty"`
	Local     bool      `json:"local,omitempty"`   // a server of llmsup's own answered
	Meant     bool      `json:"meant,omitempty"`   // for one of those: it is the primary of the route
	Paid      bool      `json:"paid,omitempty"`    // somebody who takes money for it was asked
	Resumed   bool      `json:"resumed,omitempty"` // it broke, and somebody else went on
	Partial   bool      `json:"partial,omitempty"` // it was cut or cancelled; the tokens are those that were seen
	Prompt    *int64    `json:"prompt,omitempty"`  // tokens, cached ones included
	Cached    *int64    `json:"cached,omitempty"`
	Completed *int64    `json:"completion,omitempty"`

	Cost  *usd.Amount `json:"cost,omitempty"`  // what was paid; of a free call 0
	Saved *usd.Amount `json:"saved,omitempty"` // what the fallback would have taken for it

	First time.Duration `json:"-"` // until the first answer, to the millisecond; 0 = never
	Took  time.Duration `json:"-"` // in all
}

// maxWord bounds each word of a row, in bytes: a client can make up a name of any
// length.
const maxWord = 200

// kind is what calls have in common that are added up together. The database has
// a table of them, so that a call's own row is little more than figures.
type kind struct {
	key, route, model, backend, served, reason   string
	status                                       int
	stream, local, meant, paid, resumed, partial bool
}

func (r *Row) kind() kind {
	return kind{
		key: r.Key, route: r.Route, model: r.Model, backend: r.Backend, served: r.Served, reason: r.Reason,
		status: r.Status, stream: r.Stream, local: r.Local, meant: r.Meant, paid: r.Paid, resumed: r.Resumed, partial: r.Partial,
	}
}

// maxTokens is more than any call has. What is said above it is not known.
const maxTokens = 1 << 40

// trim makes a row one that can be written anywhere, added up, and read back as it
// was.
func (r *Row) trim() {
	for _, word := range []*string{&r.Request, &r.Key, &r.Route, &r.Model, &r.Backend, &r.Served, &r.Reason} {
		if !isPlain(*word) {
			*word = strings.ReplaceAll(strings.ToValidUTF8((*word)[:min(len(*word), maxWord)], "?"), "\x00", "?")
		}
	}
	r.Time = time.UnixMilli(max(r.Time.UnixMilli(), 0)).UTC()
	for _, n := range []**int64{&r.Prompt, &r.Cached, &r.Completed} {
		if *n != nil && (**n < 0 || **n > maxTokens) {
			*n = nil
		}
	}
	if r.Cached != nil && r.Prompt != nil && *r.Cached > *r.Prompt { // it would be a part of it
		r.Cached = nil
	}
	for _, a := range []**usd.Amount{&r.Cost, &r.Saved} {
		if *a != nil && (**a < 0 || **a > usd.Most) {
			*a = nil
		}
	}
	r.First, r.Took = max(r.First, 0).Truncate(time.Millisecond), max(r.Took, 0).Truncate(time.Millisecond)
}

// isPlain says whether a word can be written as it is, as nearly all can.
func isPlain(word string) bool {
	if len(word) > maxWord {
		return false
	}
	for i := range len(word) {
		if c := word[i]; c == 0 || c >= 0x80 {
			return false
		}
	}
	return true
}

// dayLength is a day in the database's milliseconds. UTC has no others.
const dayLength = 24 * 60 * 60 * 1000

// day returns the number of a row's day since 1970.
func (r *Row) day() int64 { return r.Time.UnixMilli() / dayLength }

// entry is a row on its way to the disk.
type entry struct {
	id      int64 // its own, for ever
	row     Row
	born    time.Time     // when it was recorded, by the monotonic clock
	durable chan struct{} // closed when it is; nil where nobody waits

	// The ledger's mutex guards what follows.
	safe     bool // durable
	spilling bool // the spiller has it
	refused  bool // the spiller could not write it
	tried    bool // the committer had it, and can't say what became of it
}

// rank puts those first that somebody waits for.
func (e *entry) rank() int {
	if e.durable != nil {
		return 0
	}
	return 1
}

// Receipt is a row that somebody waits for.
type Receipt struct{ entry *entry } // nil = it was dropped

// maxWait bounds how long a call waits for its row. By then the row is in the
// database, or else in the spill; where neither can be written to it is kept in
// memory, and the call goes on.
const maxWait = time.Second

// Durable is closed when the row is on a disk. It may never be.
func (r *Receipt) Durable() <-chan struct{} {
	switch {
	case r == nil:
		return closed
	case r.entry == nil:
		return nil
	default:
		return r.entry.durable
	}
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Wait waits until the row is durable, for a second at most, and says whether it
// is. Without a ledger there is nothing to wait for.
func (r *Receipt) Wait() bool {
	if r != nil && r.entry == nil {
		return false
	}
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-r.Durable():
		return true
	case <-timer.C:
		return false
	}
}
