package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Sums are what calls add up to. What is not known of some of them is not in the
// sum, and they are counted beside it.
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
	UnknownTokens int64 `json:"unknown_tokens"` // calls that somebody answered

	Cost         usd.Amount `json:"cost_usd"`
	Charged      usd.Amount `json:"charged_usd"`  // what budgets count: the cost, and where that is unknown at least what was reserved
	UnknownCost  int64      `json:"unknown_cost"` // paid calls
	Saved        usd.Amount `json:"saved_usd"`
	UnknownSaved int64      `json:"unknown_saved"` // answered local calls

	Answers int64         `json:"-"` // calls with a first answer
	First   time.Duration `json:"-"` // until it came, of all those together
	Took    time.Duration `json:"-"` // in all, of all calls together
}

// Add adds other sums.
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
		{&s.Prompt, o.Prompt},
		{&s.Cached, o.Cached},
		{&s.Completion, o.Completion},
		{&s.UnknownTokens, o.UnknownTokens},
		{&s.UnknownCost, o.UnknownCost},
		{&s.UnknownSaved, o.UnknownSaved},
		{&s.Answers, o.Answers},
	} {
		*p.to += p.more
	}
	s.Cost += o.Cost
	s.Charged += o.Charged
	s.Saved += o.Saved
	s.First += o.First
	s.Took += o.Took
}

// By is what calls are added up by.
type By string

// What there is to add up by.
const (
	ByModel   By = "model" // as callers name it
	ByServed  By = "served"
	ByRoute   By = "route"
	ByBackend By = "backend"
	ByKey     By = "key"
	ByReason  By = "reason"
	ByDay     By = "day" // UTC, as in 2026-02-27

	// ByEscape is the reasons of those calls alone that were meant for a server of
	// llmsup's own and left it: somebody else answered them, went on with them, or was
	// paid for them. An error of the server's own is none.
	ByEscape By = "escape"
)

// columns are the expressions of each.
var columns = map[By]string{
	ByModel: "model", ByServed: "served", ByRoute: "route", ByBackend: "backend", ByKey: `"key"`, ByReason: "reason",
	ByDay: "strftime('%Y-%m-%d', day * 86400, 'unixepoch')", ByEscape: "CASE reason WHEN '' THEN 'lost' ELSE reason END", // '' = the answer had begun when it broke
}

// only are the conditions on the calls of some.
var only = map[By]string{ByEscape: "WHERE meant AND (paid OR resumed OR NOT local AND backend <> '' AND reason <> '')"}

// Group is the calls that have one name: of a model, a backend, a day.
type Group struct {
	Name string `json:"name"`
	Sums
}

// Usage is what calls of a span of time add up to.
type Usage struct {
	// From and To are the span. It is longer than was asked for where the rows of its
	// first or its last day are deleted by now: then all of that day is in it.
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Groups []Group   `json:"groups"` // by name
	Total  Sums      `json:"total"`
}

// rollup adds up whole days from the sums of days, ?1 <= day < ?2, and the parts of
// days at both ends of a span, ?3, which edges.text has written.
const rollup = `
WITH part AS (
	SELECT day, kind, calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms, charged
	FROM day WHERE day >= ?1 AND day < ?2
	UNION ALL
	SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9,
		value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14
	FROM json_each(?3)
)
SELECT %s, sum(calls), sum(calls * (status >= 400)), sum(calls * local), sum(calls * paid), sum(calls * resumed), sum(calls * partial),
	sum(prompt), sum(cached), sum(completion), sum(no_tokens * (status < 400 OR partial)), sum(cost), sum(no_cost * paid), sum(saved),
	sum(no_saved * local * (status < 400)), sum(answers), sum(first_ms), sum(ms), sum(charged)
FROM part JOIN kind ON kind.id = part.kind %s GROUP BY 1 ORDER BY 1`

// span is a span of time in milliseconds, and what it is added up from: the sums
// of whole days, and the rows at its left and its right end.
type span struct {
	from, to                       int64
	fromDay, toDay                 int64
	left, leftEnd, right, rightEnd int64
}

// cut cuts a span. Days before since have no rows any more: of those it takes all.
// Of the last day all there is can be taken as well when nothing comes after it.
func cut(from, to, since, now int64) span {
	if from < since*dayLength {
		from -= from % dayLength
	}
	if to < since*dayLength {
		to = dayAfter(to) * dayLength
	}
	to = max(to, from)
	s := span{from: from, to: to, fromDay: dayAfter(from), toDay: to / dayLength}
	if to > now {
		s.toDay = dayAfter(to)
	}
	if s.fromDay > s.toDay { // within a day
		s.fromDay, s.left, s.leftEnd = s.toDay, from, to
		return s
	}
	s.left, s.leftEnd = from, s.fromDay*dayLength
	s.right, s.rightEnd = s.toDay*dayLength, to
	return s
}

// dayAfter returns the first day that begins then or later.
func dayAfter(t int64) int64 { return (t + dayLength - 1) / dayLength }

// Usage adds up the calls that came at from or later and before to, by what they
// have in common. A zero from is the beginning, a zero to is now. What was recorded
// within the last 100 ms may be missing, and more while State says so.
func (l *Ledger) Usage(ctx context.Context, from, to time.Time, by By) (Usage, error) {
	all, err := l.Usages(ctx, from, to, by)
	if err != nil {
		return Usage{}, err
	}
	return all[0], nil
}

// Usages is Usage by several things, of the same calls.
func (l *Ledger) Usages(ctx context.Context, from, to time.Time, by ...By) ([]Usage, error) {
	for _, b := range by {
		if columns[b] == "" {
			return nil, fmt.Errorf("calls can't be added up by %q", b)
		}
	}
	if l == nil {
		return nil, errors.New("there is no ledger")
	}
	now := l.opts.now()
	if to.IsZero() {
		to = now.Add(dayLength * time.Millisecond) // a call may have come while this is read
	}
	d := l.database.Load()
	if d == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.down == nil {
			return nil, errors.New("read the ledger: it is closed")
		}
		return nil, fmt.Errorf("read the ledger: %s", explain(l.path(), l.down))
	}
	all, err := d.usages(ctx, max(from.UnixMilli(), 0), max(to.UnixMilli(), 0), now.UnixMilli(), by)
	l.doubt(d, err)
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

// doubt has the committer look after a database that a reader found corrupt. By
// now there may be another one, which knows nothing of that.
func (l *Ledger) doubt(d *database, err error) {
	if !isCorrupt(err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.database.Load() == d {
		l.suspect = err
		wake(l.wakeCommitter)
	}
}

func (d *database) usages(ctx context.Context, from, to, now int64, by []By) (all []Usage, err error) {
	tx, err := d.reader.BeginTx(ctx, nil) // one view of all tables
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var since int64
	if err := tx.QueryRowContext(ctx, "SELECT since FROM kept").Scan(&since); err != nil {
		return nil, err
	}
	s, ends := cut(from, to, since, now), edges{}
	if err := errors.Join(ends.read(ctx, d, tx, s.left, s.leftEnd), ends.read(ctx, d, tx, s.right, s.rightEnd)); err != nil {
		return nil, err
	}
	parts, err := ends.text()
	if err != nil {
		return nil, err
	}
	for _, b := range by {
		u, err := s.usage(ctx, tx, b, parts)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

func (s span) usage(ctx context.Context, tx *sql.Tx, by By, parts string) (u Usage, err error) {
	u.From, u.To = time.UnixMilli(s.from).UTC(), time.UnixMilli(s.to).UTC()
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(rollup, columns[by], only[by]), s.fromDay, s.toDay, parts)
	if err != nil {
		return Usage{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var g Group
		var first, took int64
		if err := rows.Scan(&g.Name, &g.Calls, &g.Failed, &g.Local, &g.Paid, &g.Resumed, &g.Partial, &g.Prompt, &g.Cached, &g.Completion,
			&g.UnknownTokens, &g.Cost, &g.UnknownCost, &g.Saved, &g.UnknownSaved, &g.Answers, &first, &took, &g.Charged); err != nil {
			return Usage{}, err
		}
		g.First, g.Took = time.Duration(first)*time.Millisecond, time.Duration(took)*time.Millisecond
		u.Groups = append(u.Groups, g)
		u.Total.Add(g.Sums)
	}
	return u, rows.Err()
}

// Spent returns what budgets count for the calls of a span of time, by the callers'
// keys.
func (l *Ledger) Spent(ctx context.Context, from, to time.Time) (map[string]usd.Amount, error) {
	u, err := l.Usage(ctx, from, to, ByKey)
	if err != nil {
		return nil, err
	}
	spent := map[string]usd.Amount{}
	for _, g := range u.Groups {
		spent[g.Name] = g.Charged
	}
	return spent, nil
}
