package ledger

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/llmsup/llmsup/router/usd"
)

// rowsAtOnce is how many rows one statement writes: as many as there are, in as few
// statements as can be. A statement costs about as much as four rows.
var rowsAtOnce = [...]int{256, 64, 16, 4, 1}

const (
	rowColumns = 11
	// maxKinds bounds what is remembered of the table of kinds.
	maxKinds = 4096
)

// insertInto is the statement that writes n rows. One alone may be there already;
// of many none is.
func insertInto(n int) string {
	into := "INSERT"
	if n == 1 {
		into = "INSERT OR IGNORE"
	}
	values := "(" + strings.TrimSuffix(strings.Repeat("?,", rowColumns), ",") + "),"
	return into + " INTO call (time, id, kind, request, prompt, cached, completion, cost, saved, first_ms, ms) VALUES " +
		strings.TrimSuffix(strings.Repeat(values, n), ",")
}

const (
	insertKind = `INSERT OR IGNORE INTO kind ("key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`
	selectKind = `SELECT id FROM kind WHERE "key" = ? AND route = ? AND model = ? AND backend = ? AND served = ? AND reason = ?
AND status = ? AND stream = ? AND local = ? AND meant = ? AND paid = ? AND resumed = ? AND partial = ?`
	addToDay = `INSERT INTO day (day, kind, calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (day, kind) DO UPDATE SET calls = calls + excluded.calls, prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
completion = completion + excluded.completion, no_tokens = no_tokens + excluded.no_tokens, cost = cost + excluded.cost,
no_cost = no_cost + excluded.no_cost, saved = saved + excluded.saved, no_saved = no_saved + excluded.no_saved,
answers = answers + excluded.answers, first_ms = first_ms + excluded.first_ms, ms = ms + excluded.ms`
)

// dayKind is what a row of the table day is for, and daySums what is in it.
type (
	dayKind struct{ day, kind int64 }
	daySums struct {
		calls, prompt, cached, completion, noTokens int64
		cost, noCost, saved, noSaved                int64
		answers, firstMS, ms                        int64
	}
)

func (s *daySums) add(r *Row) {
	s.calls++
	if r.Prompt == nil || r.Completed == nil {
		s.noTokens++
	}
	s.prompt += orZero(r.Prompt)
	s.cached += orZero(r.Cached)
	s.completion += orZero(r.Completed)
	addOr(&s.cost, &s.noCost, r.Cost)
	addOr(&s.saved, &s.noSaved, r.Saved)
	if r.First > 0 {
		s.answers++
		s.firstMS += r.First.Milliseconds()
	}
	s.ms += r.Took.Milliseconds()
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func addOr(sum, unknown *int64, a *usd.Amount) {
	if a == nil {
		*unknown++
	} else {
		*sum += int64(*a)
	}
}

// store writes rows, and their days' sums, in one transaction. maybe says that
// some may be there already; those are left as they are, and not added again.
func (d *database) store(entries []*entry, maybe bool) error {
	err := d.transaction(func(ctx context.Context) error {
		sums := map[dayKind]*daySums{}
		args, of := make([]any, 0, min(len(entries), rowsAtOnce[0])*rowColumns), make([]int64, rowsAtOnce[0])
		for len(entries) > 0 {
			size := len(rowsAtOnce) - 1
			for !maybe && size > 0 && rowsAtOnce[size-1] <= len(entries) {
				size--
			}
			n, statement := rowsAtOnce[size], d.inserts[size]
			args = args[:0]
			for i, e := range entries[:n] {
				var err error
				if of[i], err = d.kindOf(ctx, e.row.kind()); err != nil {
					return err
				}
				args = e.appendTo(args, of[i])
			}
			result, err := statement.ExecContext(ctx, args...)
			if err != nil {
				return err
			}
			written, err := result.RowsAffected()
			if err != nil {
				return err
			}
			for i, e := range entries[:n] {
				if written == 0 {
					break // n is 1, and it was there
				}
				at := dayKind{e.row.day(), of[i]}
				if sums[at] == nil {
					sums[at] = &daySums{}
				}
				sums[at].add(&e.row)
			}
			entries = entries[n:]
		}
		for at, s := range sums {
			if _, err := d.addDay.ExecContext(ctx, at.day, at.kind, s.calls, s.prompt, s.cached, s.completion, s.noTokens,
				s.cost, s.noCost, s.saved, s.noSaved, s.answers, s.firstMS, s.ms); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(d.kinds) > maxKinds {
		clear(d.kinds) // some may have been rolled back
	}
	return err
}

// appendTo adds a row's values to those of a statement.
func (e *entry) appendTo(args []any, kind int64) []any {
	r := &e.row
	args = append(args, r.Time.UnixMilli(), e.id, kind, r.Request, value(r.Prompt), value(r.Cached), value(r.Completed), value(r.Cost), value(r.Saved))
	if r.First > 0 {
		args = append(args, r.First.Milliseconds())
	} else {
		args = append(args, nil)
	}
	return append(args, r.Took.Milliseconds())
}

func value[T int64 | usd.Amount](n *T) any {
	if n == nil {
		return nil
	}
	return int64(*n)
}

// kindOf returns the id of a kind, and gives it one if it is new.
func (d *database) kindOf(ctx context.Context, k kind) (id int64, err error) {
	if id, ok := d.kinds[k]; ok {
		return id, nil
	}
	args := []any{k.key, k.route, k.model, k.backend, k.served, k.reason, k.status, k.stream, k.local, k.meant, k.paid, k.resumed, k.partial}
	err = d.findKind.QueryRowContext(ctx, args...).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		var result sql.Result
		if result, err = d.addKind.ExecContext(ctx, args...); err == nil {
			id, err = result.LastInsertId()
		}
	}
	if err != nil {
		return 0, err
	}
	d.kinds[k] = id
	return id, nil
}
