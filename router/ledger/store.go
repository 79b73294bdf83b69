package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	insertDimensions = `INSERT INTO kind ("key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`
	selectDimensions = `SELECT id FROM kind WHERE "key" = ? AND route = ? AND model = ? AND backend = ? AND served = ? AND reason = ?
AND status = ? AND stream = ? AND local = ? AND meant = ? AND paid = ? AND resumed = ? AND partial = ?`
	// The dimensions are copied from the table kind: binding them all takes longer.
	insertCall = `INSERT OR IGNORE INTO calls (time, id, request, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial,
prompt, cached, completion, cost, charged, saved, first_ms, ms, wait_ms, attempts)
SELECT ?, ?, ?, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM kind WHERE id = ?`
	addToDay = `INSERT INTO day (day, kind, calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms, charged)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (day, kind) DO UPDATE SET calls = calls + excluded.calls, prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
completion = completion + excluded.completion, no_tokens = no_tokens + excluded.no_tokens, cost = cost + excluded.cost,
no_cost = no_cost + excluded.no_cost, saved = saved + excluded.saved, no_saved = no_saved + excluded.no_saved,
answers = answers + excluded.answers, first_ms = first_ms + excluded.first_ms, ms = ms + excluded.ms,
charged = charged + excluded.charged`
)

// timeFormat is the format of the column time. All times have the same length, so they
// sort as texts.
const timeFormat = "2006-01-02T15:04:05.000Z"

func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format(timeFormat) }

// dayKey is the key of a row of the table day.
type dayKey struct{ day, kind int64 }

// daySums are the figures of a row of the table day.
type daySums struct {
	calls, prompt, cached, completion, noTokens int64
	cost, noCost, saved, noSaved                int64
	answers, firstMS, ms, charged               int64
}

func (s *daySums) add(e *journal.Entry) {
	s.calls++
	if e.Prompt == nil || e.Completion == nil {
		s.noTokens++
	}
	var ignored int64
	add(e.Prompt, &s.prompt, &ignored)
	add(e.Cached, &s.cached, &ignored)
	add(e.Completion, &s.completion, &ignored)
	add(e.Cost, &s.cost, &s.noCost)
	add(e.Charged, &s.charged, &ignored)
	add(e.Saved, &s.saved, &s.noSaved)
	if e.FirstAnswerMS > 0 {
		s.answers++
		s.firstMS += e.FirstAnswerMS
	}
	s.ms += e.DurationMS
}

// add adds a figure to its sum, or counts it as unknown.
func add[T int64 | usd.Amount](n *T, sum, unknowns *int64) {
	if n == nil {
		*unknowns++
	} else {
		*sum += int64(*n)
	}
}

// store writes rows and adds them to the sums of their days, in one transaction. It
// ignores rows that the database has already.
func (d *database) store(entries []*journal.Entry) error {
	err := d.transaction(func(ctx context.Context) error {
		days := map[dayKey]*daySums{}
		for _, e := range entries {
			kind, known := d.dimensionIDs[e.Dimensions]
			if !known {
				var err error
				if kind, err = d.dimensionsID(ctx, e.Dimensions); err != nil {
					return err
				}
			}
			isNew, err := d.insert(ctx, e, kind)
			if err != nil {
				return err
			}
			if !isNew {
				continue
			}
			key := dayKey{e.Day(), kind}
			if days[key] == nil {
				days[key] = &daySums{}
			}
			days[key].add(e)
		}
		for key, s := range days {
			if _, err := d.addDay.ExecContext(ctx, key.day, key.kind, s.calls, s.prompt, s.cached, s.completion, s.noTokens,
				s.cost, s.noCost, s.saved, s.noSaved, s.answers, s.firstMS, s.ms, s.charged); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(d.dimensionIDs) > maxDimensionIDs {
		clear(d.dimensionIDs) // some may have been rolled back
	}
	return err
}

// insert writes a row. isNew is false if the database has it already.
func (d *database) insert(ctx context.Context, e *journal.Entry, kind int64) (isNew bool, err error) {
	for i, value := range [...]driver.Value{
		timeText(e.Unix), e.ID, e.Request, orNull(e.Prompt), orNull(e.Cached), orNull(e.Completion), orNull(e.Cost), orNull(e.Charged), orNull(e.Saved),
		timeOrNull(e.FirstAnswerMS), e.DurationMS, timeOrNull(e.WaitMS), textOrNull(journal.AttemptsJSON(e.Attempts)), kind,
	} {
		d.callArgs[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
	}
	result, err := d.addCall.ExecContext(ctx, d.callArgs[:])
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows > 0, err
}

// timeOrNull returns a time as a column's value; 0 = there was none.
func timeOrNull(ms int64) driver.Value {
	if ms == 0 {
		return nil
	}
	return ms
}

// textOrNull returns a text as a column's value; "" = there is none.
func textOrNull(text string) driver.Value {
	if text == "" {
		return nil
	}
	return text
}

// orNull returns a figure as a column's value.
func orNull[T int64 | usd.Amount](n *T) driver.Value {
	if n == nil {
		return nil
	}
	return int64(*n)
}

// maxDimensionIDs is how many ids of the table kind are kept in memory.
const maxDimensionIDs = 4096

// dimensionsID returns the id of a row of the table kind, and adds the row if it is new.
func (d *database) dimensionsID(ctx context.Context, k Dimensions) (id int64, err error) {
	args := []any{k.Key, k.Route, k.Model, k.Backend, k.Served, k.Reason, k.Status, k.Stream, k.Local, k.LocalPrimary, k.Paid, k.Resumed, k.Partial}
	err = d.findDimensions.QueryRowContext(ctx, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		var result sql.Result
		if result, err = d.addDimensions.ExecContext(ctx, args...); err == nil {
			id, err = result.LastInsertId()
		}
	}
	if err != nil {
		return 0, err
	}
	d.dimensionIDs[k] = id
	return id, nil
}
