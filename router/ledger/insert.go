package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
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
		kinds, err := d.kindsOf(ctx, entries)
		if err != nil {
			return err
		}
		var sums []dayOf
		if err := d.conn.Raw(func(any) error { // database/sql's own way with values costs as much as a tenth of all this
			sums, err = d.insert(ctx, entries, kinds, maybe)
			return err
		}); err != nil {
			return err
		}
		for _, at := range sums {
			s := at.sums
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

// dayOf is what is to be added to a row of the table day.
type dayOf struct {
	dayKind
	sums daySums
}

// insert writes rows of the kinds beside them, and returns what they add to their
// days.
func (d *database) insert(ctx context.Context, entries []*entry, kinds []int64, maybe bool) (sums []dayOf, err error) {
	days := map[dayKind]int{} // places in sums
	last := -1                // of the row before, which nearly always is of the same
	for len(entries) > 0 {
		size := len(rowsAtOnce) - 1
		for !maybe && size > 0 && rowsAtOnce[size-1] <= len(entries) {
			size--
		}
		n := rowsAtOnce[size]
		d.args = d.args[:0]
		for i, e := range entries[:n] {
			d.bind(e, kinds[i])
		}
		result, err := d.inserts[size].ExecContext(ctx, d.args)
		if err != nil {
			return nil, err
		}
		written, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		for i, e := range entries[:n] {
			if written == 0 {
				break // n is 1, and it was there
			}
			at := dayKind{e.row.day(), kinds[i]}
			if last < 0 || sums[last].dayKind != at {
				var known bool
				if last, known = days[at]; !known {
					last = len(sums)
					days[at] = last
					sums = append(sums, dayOf{dayKind: at})
				}
			}
			sums[last].sums.add(&e.row)
		}
		entries, kinds = entries[n:], kinds[n:]
	}
	clear(d.args[:cap(d.args)]) // the rows' words are not kept for the next batch
	return sums, nil
}

// bind adds a row's values to those of a statement.
func (d *database) bind(e *entry, kind int64) {
	r := &e.row
	d.value(r.Time.UnixMilli())
	d.value(e.id)
	d.value(kind)
	d.value(r.Request)
	d.value(value(r.Prompt))
	d.value(value(r.Cached))
	d.value(value(r.Completed))
	d.value(value(r.Cost))
	d.value(value(r.Saved))
	if r.First > 0 {
		d.value(r.First.Milliseconds())
	} else {
		d.value(nil)
	}
	d.value(r.Took.Milliseconds())
}

func (d *database) value(v driver.Value) {
	d.args = append(d.args, driver.NamedValue{Ordinal: len(d.args) + 1, Value: v})
}

func value[T int64 | usd.Amount](n *T) driver.Value {
	if n == nil {
		return nil
	}
	return int64(*n)
}

// kindsOf returns the ids of rows' kinds.
func (d *database) kindsOf(ctx context.Context, entries []*entry) ([]int64, error) {
	ids := make([]int64, len(entries))
	var last kind
	for i, e := range entries {
		k := e.row.kind()
		if i > 0 && k == last { // cheaper than to look it up
			ids[i] = ids[i-1]
			continue
		}
		var err error
		if ids[i], err = d.kindOf(ctx, k); err != nil {
			return nil, err
		}
		last = k
	}
	return ids, nil
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
