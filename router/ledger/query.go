package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

// Sums are the sums over calls. Unknown figures are in no sum; the calls that have them
// are counted.
type Sums struct {
	Calls   int64 `json:"calls"`
	Failed  int64 `json:"failed"` // with an HTTP status of 400 or more
	Local   int64 `json:"local"`  // answered by a server of llmsup's own
	Paid    int64 `json:"paid"`
	Resumed int64 `json:"resumed"`
	Partial int64 `json:"partial"` // cut or cancelled

	Prompt        int64 `json:"prompt_tokens"` // cached ones included
	Cached        int64 `json:"cached_tokens"`
	Completion    int64 `json:"completion_tokens"`
	UnknownTokens int64 `json:"unknown_tokens"` // calls that a backend answered, whose tokens are unknown

	Cost         usd.Amount `json:"cost_usd"`
	Charged      usd.Amount `json:"charged_usd"`  // what budgets count: the cost or, if that is unknown, at least the reservation
	UnknownCost  int64      `json:"unknown_cost"` // paid calls
	Saved        usd.Amount `json:"saved_usd"`
	UnknownSaved int64      `json:"unknown_saved"` // answered local calls

	Answers     int64         `json:"-"` // calls with a first answer
	FirstAnswer time.Duration `json:"-"` // time to the first answer, over all of those
	Duration    time.Duration `json:"-"` // duration, over all calls
}

// Add adds other sums to s.
func (s *Sums) Add(o Sums) {
	s.Calls += o.Calls
	s.Failed += o.Failed
	s.Local += o.Local
	s.Paid += o.Paid
	s.Resumed += o.Resumed
	s.Partial += o.Partial
	s.Prompt += o.Prompt
	s.Cached += o.Cached
	s.Completion += o.Completion
	s.UnknownTokens += o.UnknownTokens
	s.UnknownCost += o.UnknownCost
	s.UnknownSaved += o.UnknownSaved
	s.Answers += o.Answers
	s.Cost += o.Cost
	s.Charged += o.Charged
	s.Saved += o.Saved
	s.FirstAnswer += o.FirstAnswer
	s.Duration += o.Duration
}

// By is a dimension that calls are grouped by.
type By string

// The dimensions.
const (
	ByModel   By = "model" // as clients name it
	ByServed  By = "served"
	ByRoute   By = "route"
	ByBackend By = "backend"
	ByKey     By = "key"
	ByReason  By = "reason"
	ByDay     By = "day" // UTC, as in 2026-02-27

	// ByFallbackReason groups calls whose primary is a server of llmsup's own, and that
	// another backend answered, continued or was paid for, by their reason. Errors that
	// the server itself returned are not among them.
	ByFallbackReason By = "escape"
)

// columns are the SQL expressions of the dimensions.
var columns = map[By]string{
	ByModel: "model", ByServed: "served", ByRoute: "route", ByBackend: "backend", ByKey: `"key"`, ByReason: "reason",
	ByDay: "day", ByFallbackReason: "CASE reason WHEN '' THEN 'lost' ELSE reason END", // '' = the answer had begun when it broke
}

// filters are the further SQL conditions of dimensions that do not group all calls.
var filters = map[By]string{ByFallbackReason: "AND meant AND (paid OR resumed OR NOT local AND backend <> '' AND reason <> '')"}

// Group is the sums over the calls of one model, one backend, one day, ...
type Group struct {
	Name string `json:"name"`
	Sums
}

// Usage is the sums over the calls in a span of time.
type Usage struct {
	// From and To are the span. If the rows of its first or last day are deleted already,
	// it is longer than the caller asked for: it includes all of that day.
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Groups []Group   `json:"groups"` // by name
	Total  Sums      `json:"total"`
}

// rollup sums up whole days (?1 <= day < ?2) from the table day, and the parts of days at
// both ends of the span from the table calls.
const rollup = `
WITH part AS (
	SELECT strftime('%%Y-%%m-%%d', day * 86400, 'unixepoch') AS day, "key", route, model, backend, served, reason, status, local, meant, paid, resumed, partial,
		calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms, charged
	FROM day JOIN kind ON kind.id = day.kind WHERE day >= ?1 AND day < ?2
	UNION ALL ` + callsBetween + ` time >= ?3 AND time < ?4
	UNION ALL ` + callsBetween + ` time >= ?5 AND time < ?6
)
SELECT %s, sum(calls), sum(calls * (status >= 400)), sum(calls * local), sum(calls * paid), sum(calls * resumed), sum(calls * partial),
	sum(prompt), sum(cached), sum(completion), sum(no_tokens * (status < 400 OR partial)), sum(cost), sum(no_cost * paid), sum(saved),
	sum(no_saved * local * (status < 400)), sum(answers), sum(first_ms), sum(ms), sum(charged)
FROM part WHERE (?7 = '' OR "key" = ?7) %s GROUP BY 1 ORDER BY 1`

// callsBetween selects calls in the form of rows of the table day.
const callsBetween = `
	SELECT substr(time, 1, 10), "key", route, model, backend, served, reason, status, local, meant, paid, resumed, partial,
		1, coalesce(prompt, 0), coalesce(cached, 0), coalesce(completion, 0), prompt IS NULL OR completion IS NULL, coalesce(cost, 0), cost IS NULL,
		coalesce(saved, 0), saved IS NULL, first_ms IS NOT NULL, coalesce(first_ms, 0), ms, coalesce(charged, 0)
	FROM calls WHERE`

// span is a span of time in milliseconds and its parts: whole days, and parts of days at
// its left and its right end.
type span struct {
	from, to                       int64
	fromDay, toDay                 int64
	left, leftEnd, right, rightEnd int64
}

// splitSpan splits a span into its parts. Days before since have no rows any more, so
// they count as a whole. So does the last day if the span ends in the future.
func splitSpan(from, to, since, now int64) span {
	if from < since*journal.DayLength {
		from -= from % journal.DayLength
	}
	if to < since*journal.DayLength {
		to = dayAfter(to) * journal.DayLength
	}
	to = max(to, from)
	s := span{from: from, to: to, fromDay: dayAfter(from), toDay: to / journal.DayLength}
	if to > now {
		s.toDay = dayAfter(to)
	}
	if s.fromDay > s.toDay { // the span is within one day
		s.fromDay, s.left, s.leftEnd = s.toDay, from, to
		return s
	}
	s.left, s.leftEnd = from, s.fromDay*journal.DayLength
	s.right, s.rightEnd = s.toDay*journal.DayLength, to
	return s
}

// dayAfter returns the first day that begins then or later.
func dayAfter(t int64) int64 { return (t + journal.DayLength - 1) / journal.DayLength }

// Usages sums up the calls that came at from or later and before to, once for each
// dimension. A zero from is the beginning, a zero to is now. Calls of the last seconds may
// be missing, and more than those while State is not OK.
func (l *Ledger) Usages(ctx context.Context, from, to time.Time, by ...By) ([]Usage, error) {
	return l.UsagesOf(ctx, "", from, to, by...)
}

// UsagesOf is Usages of the calls with one client key; "" = of all calls.
func (l *Ledger) UsagesOf(ctx context.Context, key string, from, to time.Time, by ...By) ([]Usage, error) {
	for _, b := range by {
		if columns[b] == "" {
			return nil, fmt.Errorf("calls cannot be grouped by %q", b)
		}
	}
	d, err := l.readable(ctx)
	if err != nil {
		return nil, err
	}
	now := l.opts.now()
	if to.IsZero() {
		to = now.Add(journal.DayLength * time.Millisecond) // a call may come during the query
	}
	all, err := d.usages(ctx, min(max(from.UnixMilli(), 0), journal.MaxTime), min(max(to.UnixMilli(), 0), journal.MaxTime), now.UnixMilli(), key, by)
	l.reportCorrupt(d, err)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	for i := range all {
		if all[i].To.After(now) {
			all[i].To = now
		}
	}
	return all, nil
}

// maxOpening is how long a query waits for the database to be opened.
const maxOpening = 10 * time.Second

// readable returns the database, or why it cannot be read. It waits while the database is being
// opened, so that a query just after the start is answered.
func (l *Ledger) readable(ctx context.Context) (*database, error) {
	if l == nil {
		return nil, errors.New("there is no ledger")
	}
	if d := l.database.Load(); d != nil {
		return d, nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxOpening)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.databaseErr == errNotOpen && l.database.Load() == nil && ctx.Err() == nil {
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		l.mu.Lock()
	}
	if d := l.database.Load(); d != nil {
		return d, nil
	}
	if l.databaseErr == nil {
		return nil, errors.New("read the ledger: it is closed")
	}
	return nil, fmt.Errorf("read the ledger: %s", describeError(l.path(), l.databaseErr))
}

// reportCorrupt reports to the committer that a reader found the database corrupt, unless
// there is another database by now.
func (l *Ledger) reportCorrupt(d *database, err error) {
	if !isCorrupt(err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.database.Load() == d {
		l.corruptErr = err
		wake(l.wakeCommitter)
	}
}

func (d *database) usages(ctx context.Context, from, to, now int64, key string, by []By) (all []Usage, err error) {
	tx, err := d.reader.BeginTx(ctx, nil) // one snapshot of all tables
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var since int64
	if err := tx.QueryRowContext(ctx, "SELECT since FROM kept").Scan(&since); err != nil {
		return nil, err
	}
	s := splitSpan(from, to, since, now)
	for _, b := range by {
		u, err := s.usage(ctx, tx, key, b)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

func (s span) usage(ctx context.Context, tx *sql.Tx, key string, by By) (u Usage, err error) {
	u.From, u.To = time.UnixMilli(s.from).UTC(), time.UnixMilli(s.to).UTC()
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(rollup, columns[by], filters[by]), s.fromDay, s.toDay,
		timeText(s.left), timeText(s.leftEnd), timeText(s.right), timeText(s.rightEnd), key)
	if err != nil {
		return Usage{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var g Group
		var first, duration int64
		if err := rows.Scan(&g.Name, &g.Calls, &g.Failed, &g.Local, &g.Paid, &g.Resumed, &g.Partial, &g.Prompt, &g.Cached, &g.Completion,
			&g.UnknownTokens, &g.Cost, &g.UnknownCost, &g.Saved, &g.UnknownSaved, &g.Answers, &first, &duration, &g.Charged); err != nil {
			return Usage{}, err
		}
		g.FirstAnswer, g.Duration = time.Duration(first)*time.Millisecond, time.Duration(duration)*time.Millisecond
		u.Groups = append(u.Groups, g)
		u.Total.Add(g.Sums)
	}
	return u, rows.Err()
}

// spent sums up the charges from day ?1 on, without those of the run ?3 at time ?2 or later.
// These are few rows, so they are subtracted from the sums of days. An earlier run has later
// rows if the clock was set back since.
const spent = `
SELECT "key", sum(charged) FROM (
	SELECT "key", charged FROM day JOIN kind ON kind.id = day.kind WHERE day >= ?1
	UNION ALL
	SELECT "key", -coalesce(charged, 0) FROM calls WHERE time >= ?2 AND id >> 32 = ?3
) GROUP BY "key"`

// Spent returns the charges of the calls that came on the day (UTC) of from or later, by
// client key, without those that came to this process at the time to or later. It is fast if
// from or to is recent.
func (l *Ledger) Spent(ctx context.Context, from, to time.Time) (map[string]usd.Amount, error) {
	d, err := l.readable(ctx)
	if err != nil {
		return nil, err
	}
	day := from.UnixMilli() / journal.DayLength
	own := max(to.UnixMilli(), day*journal.DayLength) // what is not in the sum must not be subtracted
	amounts, err := d.spent(ctx, day, timeText(own), l.run>>32)
	l.reportCorrupt(d, err)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return amounts, nil
}

func (d *database) spent(ctx context.Context, day int64, before string, run int64) (map[string]usd.Amount, error) {
	rows, err := d.reader.QueryContext(ctx, spent, day, before, run)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	amounts := map[string]usd.Amount{}
	for rows.Next() {
		var key string
		var amount usd.Amount
		if err := rows.Scan(&key, &amount); err != nil {
			return nil, err
		}
		amounts[key] = amount
	}
	return amounts, rows.Err()
}
