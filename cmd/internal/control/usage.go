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
// the sums of the calls of a period. Its names are part of the contract.
type Usage struct {
	From   time.Time    `json:"from"` // earlier than requested if the calls of its day were deleted and only its sums are left
	To     time.Time    `json:"to"`
	Total  Sums         `json:"total"`
	Groups []UsageGroup `json:"groups"`

	// These are there if the request does not say what to group by; Groups is by model
	// then.
	Reasons []UsageGroup `json:"reasons,omitzero"` // why calls for a local server were answered, continued or paid for elsewhere
	Days    []UsageGroup `json:"days,omitzero"`    // UTC

	Incomplete string `json:"incomplete,omitempty"` // why some calls may be missing

	Boxes []UsageGroup `json:"boxes,omitzero"` // of a report of the fleet: the sums of each box
	FleetReport
}

// UsageGroup has the sums of the calls of one model, key, day and so on.
type UsageGroup struct {
	Name string `json:"name"`
	Sums
}

// Sums are sums over calls. A sum leaves out calls whose value is unknown, and their
// number is beside it; a sum is null if all values are unknown.
type Sums struct {
	Calls   int64 `json:"calls"`
	Failed  int64 `json:"failed"` // with an HTTP status of 400 or more
	Local   int64 `json:"local"`  // answered by a server of llmsup's own
	Paid    int64 `json:"paid"`   // a paid upstream was tried
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

// USD is an amount as a JSON number with all its digits. Unlike a configured or listed
// amount, it may have any size.
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
	p.Groups = nonNil(p.Groups)
	return json.Marshal(p)
}

// usageTimeout limits a request for usage, which may read years of calls from a disk.
const usageTimeout = 30 * time.Second

// UsageBy is what usage can be grouped by.
var UsageBy = []string{"model", "backend", "key", "day", "reason", "route"}

// Usage returns the sums of the calls since from and before to, grouped by one of
// UsageBy; "" = the overview for people. A zero from is the beginning, a zero to is now.
func (c *Client) Usage(ctx context.Context, from, to time.Time, by string) (Usage, error) {
	return request[Usage](ctx, c, http.MethodGet, "/v1/usage?"+UsageValues(from, to, by).Encode(), nil, usageTimeout)
}

// UsageValues returns the query of a request for usage as that of a URL.
func UsageValues(from, to time.Time, by string) url.Values {
	query := url.Values{}
	for name, t := range map[string]time.Time{"since": from, "until": to} {
		if !t.IsZero() {
			query.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if by != "" {
		query.Set("by", by)
	}
	return query
}

// usageQuery is the query of a request for usage.
type usageQuery struct {
	from, to time.Time
	by       string
}

// parseUsageQuery reads a query that groups by one of these, or rejects the request and returns
// false.
func parseUsageQuery(w http.ResponseWriter, r *http.Request, groups []string) (q usageQuery, ok bool) {
	query := r.URL.Query()
	for name, at := range map[string]*time.Time{"since": &q.from, "until": &q.to} {
		if text := query.Get(name); text != "" {
			var err error
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				reject(w, http.StatusBadRequest, name+" has to be a time (example: 2026-11-01T00:00:00Z)")
				return q, false
			}
		}
	}
	q.by = query.Get("by")
	if q.by != "" && !slices.Contains(groups, q.by) {
		reject(w, http.StatusBadRequest, "by has to be one of "+strings.Join(groups, ", "))
		return q, false
	}
	return q, true
}

func serveUsage(w http.ResponseWriter, r *http.Request, daemon Reader) {
	q, ok := parseUsageQuery(w, r, UsageBy)
	if !ok {
		return
	}
	u, err := daemon.Usage(r.Context(), q.from, q.to, q.by)
	if err != nil {
		reject(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, u)
}

// Add adds other sums. A value that is known in one of them is known in the result.
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
