package ledger

import (
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

	Cost    *usd.Amount `json:"cost,omitempty"`    // what was paid; of a free call 0
	Charged *usd.Amount `json:"charged,omitempty"` // what budgets count for it where that is not Cost; nil = Cost
	Saved   *usd.Amount `json:"saved,omitempty"`   // what the fallback would have taken for it

	First time.Duration `json:"-"` // until the first answer, to the millisecond; 0 = never
	Took  time.Duration `json:"-"` // in all

	Pending []*Pending `json:"-"` // what Begin returned for the call: this row ends it
}

// dayLength is a day in the database's milliseconds. UTC has no others.
const dayLength = 24 * 60 * 60 * 1000

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
