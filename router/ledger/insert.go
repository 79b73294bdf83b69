package ledger

import (
	"context"
	"database/sql"
	"errors"

	"github.com/tidwall/gjson"
)

const (
	insertKind = `INSERT OR IGNORE INTO kind ("key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`
	selectKind = `SELECT id FROM kind WHERE "key" = ? AND route = ? AND model = ? AND backend = ? AND served = ? AND reason = ?
AND status = ? AND stream = ? AND local = ? AND meant = ? AND paid = ? AND resumed = ? AND partial = ?`
	insertBatch = `INSERT INTO batch (day, kind, run, since, until, calls) VALUES (?,?,?,?,?,CAST(? AS TEXT))`
	addToDay    = `INSERT INTO day (day, kind, calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms, charged)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (day, kind) DO UPDATE SET calls = calls + excluded.calls, prompt = prompt + excluded.prompt, cached = cached + excluded.cached,
completion = completion + excluded.completion, no_tokens = no_tokens + excluded.no_tokens, cost = cost + excluded.cost,
no_cost = no_cost + excluded.no_cost, saved = saved + excluded.saved, no_saved = no_saved + excluded.no_saved,
answers = answers + excluded.answers, first_ms = first_ms + excluded.first_ms, ms = ms + excluded.ms,
charged = charged + excluded.charged`
)

// daySums is what is in a row of the table day.
type daySums struct {
	calls, prompt, cached, completion, noTokens int64
	cost, noCost, saved, noSaved                int64
	answers, firstMS, ms, charged               int64
}

func (s *daySums) add(e *entry) {
	s.calls++
	if e.prompt == unknown || e.completion == unknown {
		s.noTokens++
	}
	var ignored int64
	e.prompt.addTo(&s.prompt, &ignored)
	e.cached.addTo(&s.cached, &ignored)
	e.completion.addTo(&s.completion, &ignored)
	e.cost.addTo(&s.cost, &s.noCost)
	charged := e.charged
	if charged == unknown {
		charged = e.cost
	}
	charged.addTo(&s.charged, &ignored)
	e.saved.addTo(&s.saved, &s.noSaved)
	if e.first > 0 {
		s.answers++
		s.firstMS += e.first
	}
	s.ms += e.took
}

// addTo adds a figure to its sum, or to those that nobody knows.
func (n figure) addTo(sum, others *int64) {
	if n == unknown {
		*others++
	} else {
		*sum += int64(n)
	}
}

// maxRoom bounds what is kept of a batch's text for the next one, in bytes: a
// batch of usual rows has a quarter of it.
const maxRoom = 256 << 10

// store writes rows, and their days' sums, in one transaction. maybe says that
// some may be there already; those are left as they are, and not added again.
func (d *database) store(entries []*entry, maybe bool) error {
	err := d.transaction(func(ctx context.Context) error {
		var err error
		if maybe {
			if entries, err = d.missing(ctx, entries); err != nil {
				return err
			}
		}
		kinds, err := d.kindsOf(ctx, entries)
		if err != nil {
			return err
		}
		batches := batchesOf(entries, kinds, d.room)
		for i := range batches {
			b := &batches[i]
			if i == 0 && cap(b.calls) <= maxRoom {
				d.room = b.calls
			}
			if _, err := d.addBatch.ExecContext(ctx, b.day, b.kind, b.run, b.since, b.until, b.calls); err != nil {
				return err
			}
			s := &b.sums
			if _, err := d.addDay.ExecContext(ctx, b.day, b.kind, s.calls, s.prompt, s.cached, s.completion, s.noTokens,
				s.cost, s.noCost, s.saved, s.noSaved, s.answers, s.firstMS, s.ms, s.charged); err != nil {
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

// inTime selects the batches of a run that may have calls of a time.
const inTime = "SELECT id, calls FROM batch WHERE day = ? AND until >= ? AND until < ? AND since <= ? AND run = ?"

// missing returns those of some rows that are not in the database, each once.
func (d *database) missing(ctx context.Context, entries []*entry) ([]*entry, error) {
	type call struct{ time, id int64 }
	parts := map[batchKey]*batch{}
	for _, e := range entries {
		at := e.batchKey(0) // of any kind
		if parts[at] == nil {
			parts[at] = &batch{batchKey: at, since: dayLength}
		}
		t := e.time % dayLength
		parts[at].since, parts[at].until = min(parts[at].since, t), max(parts[at].until, t)
	}
	known := map[call]bool{}
	for _, p := range parts {
		rows, err := d.conn.QueryContext(ctx, inTime, p.day, p.since, p.until+sliceLength, p.until, p.run)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id int64
			var calls string
			if err = rows.Scan(&id, &calls); err != nil {
				break
			}
			if readCalls(calls, func(c *[callColumns]gjson.Result) {
				known[call{p.day*dayLength + c[0].Int(), p.run<<runBits | c[1].Int()}] = true
			}) != nil {
				d.passOver(id)
			}
		}
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	var missing []*entry
	for _, e := range entries {
		at := call{e.time, e.id}
		if !known[at] {
			known[at] = true
			missing = append(missing, e)
		}
	}
	return missing, nil
}

// kindsOf returns the ids of rows' kinds.
func (d *database) kindsOf(ctx context.Context, entries []*entry) ([]int64, error) {
	ids := make([]int64, len(entries))
	for i, e := range entries {
		if i > 0 && e.kind == entries[i-1].kind {
			ids[i] = ids[i-1]
			continue
		}
		var err error
		if ids[i], err = d.kindOf(ctx, *e.kind); err != nil {
			return nil, err
		}
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
