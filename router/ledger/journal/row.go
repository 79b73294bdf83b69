package journal

import (
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Row is the record of one call. A nil figure is unknown.
type Row struct {
	Number  int64     `json:"-"`       // the id that Ledger.NewNumber gave it; 0 = none
	Time    time.Time `json:"-"`       // when the call came; to the millisecond
	Request string    `json:"request"` // X-Request-Id; a client may use one twice
	Dimensions
	Prompt     *int64 `json:"prompt,omitempty"` // tokens, cached ones included
	Cached     *int64 `json:"cached,omitempty"`
	Completion *int64 `json:"completion,omitempty"`

	Cost    *usd.Amount `json:"cost,omitempty"`    // what was paid; 0 for a free call
	Charged *usd.Amount `json:"charged,omitempty"` // what budgets count; nil = Cost
	Saved   *usd.Amount `json:"saved,omitempty"`   // what the fallback would have charged for it

	Attempts []Attempt `json:"attempts,omitempty"` // none = the only one answered, or there was none

	FirstAnswer time.Duration `json:"-"` // time to the first answer, in milliseconds; 0 = there was none
	Duration    time.Duration `json:"-"` // of the whole call
	Wait        time.Duration `json:"-"` // for a slot of a local server or for its model, all attempts together, in milliseconds; 0 = it did not wait
}

// Dimensions are what calls are grouped by. Texts are truncated to 200 bytes.
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
	Partial      bool   `json:"partial,omitempty"` // the answer was truncated or cancelled; the tokens are those that were seen
}

// Entry is a row as the journal and the database store it.
type Entry struct {
	ID            int64   `json:"id"`                 // with Unix, the row's primary key
	Unix          int64   `json:"time"`               // when the call came, in milliseconds since 1970
	FirstAnswerMS int64   `json:"first_ms,omitempty"` // 0 = there was no answer
	DurationMS    int64   `json:"ms"`
	WaitMS        int64   `json:"wait_ms,omitempty"` // 0 = it did not wait
	Ends          []int64 `json:"ends,omitempty"`    // ids of further attempts that this row ends
	Row
}

// NewEntry returns the entry of a row.
func NewEntry(id int64, r *Row) *Entry {
	e := &Entry{ID: id, Unix: r.Time.UnixMilli(), FirstAnswerMS: r.FirstAnswer.Milliseconds(), DurationMS: r.Duration.Milliseconds(), WaitMS: r.Wait.Milliseconds(), Row: *r}
	e.Attempts = boundAttempts(e.Attempts)
	e.Model = strings.Clone(e.Model) // it may be a part of the request's body, which must not stay in memory for it
	e.normalize()
	return e
}

// normalize makes the entry's values ones that the journal and the database store and
// return unchanged, and that can be summed up without overflow.
func (e *Entry) normalize() {
	e.Unix = min(max(e.Unix, 0), MaxTime)
	e.FirstAnswerMS, e.DurationMS, e.WaitMS = max(e.FirstAnswerMS, 0), max(e.DurationMS, 0), max(e.WaitMS, 0)
	for _, text := range []*string{&e.Request, &e.Key, &e.Route, &e.Model, &e.Backend, &e.Served, &e.Reason} {
		*text = clip(*text)
	}
	for _, tokens := range []**int64{&e.Prompt, &e.Cached, &e.Completion} {
		*tokens = knownUpTo(*tokens, maxTokens)
	}
	for _, amount := range []**usd.Amount{&e.Cost, &e.Charged, &e.Saved} {
		*amount = knownUpTo(*amount, usd.Max)
	}
	if e.Cached != nil && e.Prompt != nil && *e.Cached > *e.Prompt { // cached tokens are part of the prompt
		e.Cached = nil
	}
	if e.Charged == nil {
		e.Charged = e.Cost
	}
}

const (
	// DayLength is a day in milliseconds. In UTC all days have the same length.
	DayLength = 24 * 60 * 60 * 1000
	// MaxTime is the end of the year 9999 in milliseconds: the text of a later time is
	// longer, and would not sort.
	MaxTime = 253402300799999
	// MaxText bounds each text of a row, in bytes: a client can choose a name of any
	// length.
	MaxText = 200
	// maxTokens is more than any call uses. A higher figure counts as unknown.
	maxTokens = 1 << 40
)

// knownUpTo returns n, or nil (unknown) if it is negative or higher than limit.
func knownUpTo[T int64 | usd.Amount](n *T, limit T) *T {
	if n == nil || *n < 0 || *n > limit {
		return nil
	}
	return n
}

// CallID returns the id of the row's call.
func (r *Row) CallID() CallID { return NewCallID(r.Time, r.Number) }

// Day returns the number of the row's day (UTC) since 1970.
func (e *Entry) Day() int64 { return e.Unix / DayLength }

// clip truncates a text, and replaces bytes that JSON or SQLite would change.
func clip(text string) string {
	if len(text) > MaxText {
		text = text[:MaxText]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
}
