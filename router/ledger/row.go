package ledger

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Row is what the ledger keeps of one call. A nil figure is not known.
type Row struct {
	Time    time.Time `json:"-"`       // when the call came; to the millisecond
	Request string    `json:"request"` // its id; a client may use one twice
	Dimensions
	Prompt     *int64 `json:"prompt,omitempty"` // tokens, cached ones included
	Cached     *int64 `json:"cached,omitempty"`
	Completion *int64 `json:"completion,omitempty"`

	Cost    *usd.Amount `json:"cost,omitempty"`    // what was paid; of a free call 0
	Charged *usd.Amount `json:"charged,omitempty"` // what budgets count for it where that is not Cost; nil = Cost
	Saved   *usd.Amount `json:"saved,omitempty"`   // what the fallback would have charged for it

	FirstAnswer time.Duration `json:"-"` // until the first answer, to the millisecond; 0 = there was none
	Duration    time.Duration `json:"-"` // in all

	Pending []*Pending `json:"-"` // what Begin returned for the call: this row ends it
}

// Dimensions are what calls are summed up by. Their texts are cut after 200 bytes.
type Dimensions struct {
	Key          string `json:"key,omitempty"`     // the name of the client's key; "" = none
	Route        string `json:"route,omitempty"`   // the pattern that matched
	Model        string `json:"model,omitempty"`   // as the client named it
	Backend      string `json:"backend,omitempty"` // which backend answered; "" = none
	Served       string `json:"served,omitempty"`  // the model's name there
	Reason       string `json:"reason,omitempty"`  // why the primary did not answer; "" = it did
	Status       int    `json:"status"`            // HTTP status
	Stream       bool   `json:"stream,omitempty"`
	Local        bool   `json:"local,omitempty"`   // a server of llmsup's own answered
	LocalPrimary bool   `json:"meant,omitempty"`   // the primary of its route is a server of llmsup's own
	Paid         bool   `json:"paid,omitempty"`    // a paid upstream was asked
	Resumed      bool   `json:"resumed,omitempty"` // the answer broke, and another backend continued it
	Partial      bool   `json:"partial,omitempty"` // the answer was cut or canceled; the tokens are those that were seen
}

// entry is a row as the journal and the database have it. Its times are Unix
// milliseconds, and milliseconds.
type entry struct {
	ID     int64   `json:"id"` // with the time it is the row's primary key
	Came   int64   `json:"time"`
	Answer int64   `json:"first_ms,omitempty"` // 0 = there was no answer
	Ended  int64   `json:"ms"`
	Ends   []int64 `json:"ends,omitempty"` // the ids of further attempts that the row ends, see Begin
	Row
}

func newEntry(id int64, r *Row) *entry {
	e := &entry{ID: id, Came: r.Time.UnixMilli(), Answer: r.FirstAnswer.Milliseconds(), Ended: r.Duration.Milliseconds(), Row: *r}
	e.Model = strings.Clone(e.Model) // it may be a part of the whole body, which must not be kept for it
	e.normalize()
	return e
}

// normalize makes an entry one that can be written anywhere, added up, and read
// back as it was.
func (e *entry) normalize() {
	e.Came, e.Answer, e.Ended = min(max(e.Came, 0), maxTime), max(e.Answer, 0), max(e.Ended, 0)
	for _, text := range []*string{&e.Request, &e.Key, &e.Route, &e.Model, &e.Backend, &e.Served, &e.Reason} {
		*text = clip(*text)
	}
	for _, tokens := range []**int64{&e.Prompt, &e.Cached, &e.Completion} {
		*tokens = knownUpTo(*tokens, maxTokens)
	}
	for _, amount := range []**usd.Amount{&e.Cost, &e.Charged, &e.Saved} {
		*amount = knownUpTo(*amount, usd.Max)
	}
	if e.Cached != nil && e.Prompt != nil && *e.Cached > *e.Prompt { // they would be a part of it
		e.Cached = nil
	}
	if e.Charged == nil {
		e.Charged = e.Cost
	}
}

const (
	// dayLength is a day in milliseconds. UTC has no others.
	dayLength = 24 * 60 * 60 * 1000
	// maxTime is the end of the year 9999: later times have no text of the same length.
	maxTime = 253402300799999
	// maxText bounds each text of a row, in bytes: a client can make up a name of any
	// length.
	maxText = 200
	// maxTokens is more than any call has. A higher figure is taken as unknown.
	maxTokens = 1 << 40
)

// knownUpTo returns a figure unless it is negative or too high: then it is not known.
func knownUpTo[T int64 | usd.Amount](n *T, most T) *T {
	if n == nil || *n < 0 || *n > most {
		return nil
	}
	return n
}

// day returns the number of a row's day since 1970.
func (e *entry) day() int64 { return e.Came / dayLength }

// clip makes a text one that can be written anywhere, and read back as it was.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
}
