package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Usage is the answer of GET /v1/usage, and what `llmsup usage --json` prints:
// what the calls of a span of time add up to. Its names are part of the contract.
type Usage struct {
	From   time.Time    `json:"from"` // earlier than asked for where the calls of its day are deleted and only its sums are left
	To     time.Time    `json:"to"`
	Total  Sums         `json:"total"`
	Groups []UsageGroup `json:"groups"`

	// These are there when the question does not say what to add up by; Groups is
	// by model then.
	Reasons []UsageGroup `json:"reasons,omitzero"` // why calls that were meant for a local server left it: were answered, gone on with, or paid for elsewhere
	Days    []UsageGroup `json:"days,omitzero"`    // UTC

	Incomplete string `json:"incomplete,omitempty"` // why some calls may be missing
}

// UsageGroup is the calls that have one name: of a model, a key, a day.
type UsageGroup struct {
	Name string `json:"name"`
	Sums
}

// Sums are what calls add up to. What is not known of some is not in the sum, and
// they are counted beside it; a sum of which nothing is known is null.
type Sums struct {
	Calls   int64 `json:"calls"`
	Failed  int64 `json:"failed"` // with an HTTP status of 400 or more
	Local   int64 `json:"local"`  // answered by a server of llmsup's own
	Paid    int64 `json:"paid"`   // somebody who takes money was asked
	Resumed int64 `json:"resumed"`
	Partial int64 `json:"partial"` // cut or cancelled

	Prompt        *int64 `json:"prompt_tokens"` // cached ones included
	Cached        *int64 `json:"cached_tokens"`
	Completion    *int64 `json:"completion_tokens"`
	UnknownTokens int64  `json:"unknown_tokens"` // calls

	Cost         *USD  `json:"cost_usd"`
	UnknownCost  int64 `json:"unknown_cost"` // paid calls
	Saved        *USD  `json:"saved_usd"`
	UnknownSaved int64 `json:"unknown_saved"` // local calls
}

// USD is an amount on the wire: a JSON number with all its digits. Unlike an
// amount that somebody configures or lists, it may be of any size.
type USD usd.Amount

// MarshalJSON implements json.Marshaler.
func (a USD) MarshalJSON() ([]byte, error) { return usd.Amount(a).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (a *USD) UnmarshalJSON(raw []byte) error {
	const places = 12 // usd's
	n, err := usd.ParseScaled(string(raw), places)
	*a = USD(n)
	return err
}

// MarshalJSON writes an empty list as [].
func (u Usage) MarshalJSON() ([]byte, error) {
	type plain Usage
	p := plain(u)
	p.Groups = list(p.Groups)
	return json.Marshal(p)
}

// usageTime bounds a question about usage: years of it are read from a disk.
const usageTime = 30 * time.Second

// UsageBy is what usage can be added up by.
var UsageBy = []string{"model", "backend", "key", "day", "reason", "route"}

// Usage returns what the calls from from on and before to add up to, by what they
// have in common; "" = the page that people read. A zero from is the beginning, a
// zero to is now.
func (c *Client) Usage(ctx context.Context, from, to time.Time, by string) (Usage, error) {
	query := url.Values{}
	for name, t := range map[string]time.Time{"since": from, "until": to} {
		if !t.IsZero() {
			query.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if by != "" {
		query.Set("by", by)
	}
	return ask[Usage](ctx, c, http.MethodGet, "/v1/usage?"+query.Encode(), nil, usageTime)
}

func answerUsage(w http.ResponseWriter, r *http.Request, source Source) {
	query := r.URL.Query()
	var span [2]time.Time
	for i, name := range []string{"since", "until"} {
		if text := query.Get(name); text != "" {
			var err error
			if span[i], err = time.Parse(time.RFC3339, text); err != nil {
				refuse(w, http.StatusBadRequest, name+" has to be a time, as in 2026-11-01T00:00:00Z")
				return
			}
		}
	}
	by := query.Get("by")
	if by != "" && !slices.Contains(UsageBy, by) {
		refuse(w, http.StatusBadRequest, "by has to be one of "+strings.Join(UsageBy, ", "))
		return
	}
	u, err := source.Usage(r.Context(), span[0], span[1], by)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, u)
}

// Add adds other sums. What is known of some of both is.
func (s *Sums) Add(o Sums) {
	for _, p := range []struct {
		to   *int64
		more int64
	}{
		{&s.Calls, o.Calls},
		{&s.Failed, o.Failed},
		{&s.Local, o.Local},
		{&s.Paid, o.Paid},
		{&s.Resumed, o.Resumed},
		{&s.Partial, o.Partial},
		{&s.UnknownTokens, o.UnknownTokens},
		{&s.UnknownCost, o.UnknownCost},
		{&s.UnknownSaved, o.UnknownSaved},
	} {
		*p.to += p.more
	}
	s.Prompt, s.Cached, s.Completion = plus(s.Prompt, o.Prompt), plus(s.Cached, o.Cached), plus(s.Completion, o.Completion)
	s.Cost, s.Saved = plus(s.Cost, o.Cost), plus(s.Saved, o.Saved)
}

func plus[T int64 | USD](a, b *T) *T {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	sum := *a + *b
	return &sum
}
