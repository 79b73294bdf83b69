package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// CallQuery selects calls. A zero field does not limit them.
type CallQuery struct {
	Since, Until time.Time // since <= the call's arrival < until
	Key          string
	Model        string
	Backend      string
	Reason       string
	MinStatus    int // HTTP
	MaxStatus    int // 0 = none
	Limit        int // how many, the latest first
	After        Cursor
}

// Cursor is the position of a call in the list of calls, for the next page; "" = the first page.
type Cursor string

func newCursor(r *Row) Cursor {
	return Cursor(strconv.FormatInt(r.Time.UnixMilli(), cursorBase) + "." + strconv.FormatInt(r.Number, cursorBase))
}

const cursorBase = 36

// ErrCursor is the error of a Cursor that Calls has not returned.
var ErrCursor = errors.New("it is not a position in the list of calls")

// parse returns the primary key of the row.
func (c Cursor) parse() (ms, id int64, err error) {
	if c == "" {
		return journal.MaxTime, math.MaxInt64, nil
	}
	at, number, _ := strings.Cut(string(c), ".")
	ms, err = strconv.ParseInt(at, cursorBase, 64)
	if err == nil {
		id, err = strconv.ParseInt(number, cursorBase, 64)
	}
	if err != nil || ms < 0 || ms > journal.MaxTime {
		return 0, 0, ErrCursor
	}
	return ms, id, nil
}

// selectCalls selects the columns that scanCall reads.
const selectCalls = `
SELECT time, id, request, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial,
	prompt, cached, completion, cost, charged, saved, first_ms, ms, wait_ms, attempts FROM calls WHERE `

// callPage is a page of calls, of a part of the time. (time, id) is the primary key.
const callPage = `time >= ? AND time < ? AND (time, id) < (?, ?)%s ORDER BY time DESC, id DESC LIMIT ?`

// daysWithCalls are the days (UTC, since 1970) with calls that a query selects.
const daysWithCalls = `SELECT DISTINCT day FROM day JOIN kind ON kind.id = day.kind WHERE day >= ? AND day <= ?%s ORDER BY day DESC`

// filter returns the conditions on the columns that calls and kinds have in common.
func (q *CallQuery) filter() (conditions string, args []any) {
	for _, c := range []struct{ column, value string }{{`"key"`, q.Key}, {"model", q.Model}, {"backend", q.Backend}, {"reason", q.Reason}} {
		if c.value != "" {
			conditions, args = conditions+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	if q.MinStatus > 0 {
		conditions, args = conditions+" AND status >= ?", append(args, q.MinStatus)
	}
	if q.MaxStatus > 0 {
		conditions, args = conditions+" AND status <= ?", append(args, q.MaxStatus)
	}
	return conditions, args
}

// Calls returns the calls that a query selects, the latest first, and the position of the last
// one if there may be more. Calls of the last seconds may be missing: see Sync.
func (l *Ledger) Calls(ctx context.Context, q CallQuery) (rows []Row, next Cursor, err error) {
	d, err := l.readable(ctx)
	if err != nil {
		return nil, "", err
	}
	rows, err = d.calls(ctx, &q)
	l.reportCorrupt(d, err)
	switch {
	case errors.Is(err, ErrCursor):
		return nil, "", err
	case err != nil:
		return nil, "", fmt.Errorf("read the ledger: %w", err)
	}
	if len(rows) == q.Limit && q.Limit > 0 {
		next = newCursor(&rows[len(rows)-1])
	}
	return rows, next, nil
}

// EachCall calls emit for all calls that a query selects, whatever its Limit, the latest first,
// until emit returns an error. It holds no transaction open, and few rows at a time.
func (l *Ledger) EachCall(ctx context.Context, q CallQuery, emit func(*Row) error) error {
	for q.Limit = exportPage; ; {
		rows, next, err := l.Calls(ctx, q)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := emit(&rows[i]); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		q.After = next
	}
}

// exportPage is how many rows EachCall reads at once.
const exportPage = 1000

// calls reads a page. A query with conditions reads only days that have such calls: few calls
// among a million are found without an index, which each call would pay for.
func (d *database) calls(ctx context.Context, q *CallQuery) ([]Row, error) {
	ms, id, err := q.After.parse()
	if err != nil {
		return nil, err
	}
	from, to := max(q.Since.UnixMilli(), 0), min(ms, journal.MaxTime-1)+1
	if !q.Until.IsZero() {
		to = min(to, max(q.Until.UnixMilli(), 0))
	}
	read := func(rows []Row, from, to int64) ([]Row, error) {
		conditions, args := q.filter()
		args = append([]any{timeText(from), timeText(to), timeText(ms), id}, args...)
		return d.readCalls(ctx, rows, selectCalls+fmt.Sprintf(callPage, conditions), append(args, q.Limit-len(rows))...)
	}
	if conditions, _ := q.filter(); conditions == "" {
		return read(nil, from, to)
	}
	days, err := d.daysWith(ctx, q, from, to)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, day := range days {
		if rows, err = read(rows, max(from, day*journal.DayLength), min(to, (day+1)*journal.DayLength)); err != nil || len(rows) == q.Limit {
			return rows, err
		}
	}
	return rows, nil
}

// daysWith returns the days with calls that a query selects, the latest first.
func (d *database) daysWith(ctx context.Context, q *CallQuery, from, to int64) (days []int64, err error) {
	conditions, args := q.filter()
	found, err := d.reader.QueryContext(ctx, fmt.Sprintf(daysWithCalls, conditions), append([]any{from / journal.DayLength, to / journal.DayLength}, args...)...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var day int64
		if err := found.Scan(&day); err != nil {
			return nil, err
		}
		days = append(days, day)
	}
	return days, found.Err()
}

// Call returns a call; nil = the ledger does not have it.
func (l *Ledger) Call(ctx context.Context, id CallID) (*Row, error) {
	d, err := l.readable(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.readCalls(ctx, nil, selectCalls+"time = ? AND id & ? = ?", timeText(min(id.Unix, journal.MaxTime)), journal.NumberMask, id.Number)
	l.reportCorrupt(d, err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the ledger: %w", err)
	case len(rows) == 0:
		return nil, nil //nolint:nilnil // the doc comment says so
	}
	return &rows[0], nil
}

// readCalls adds the calls of a query to rows.
func (d *database) readCalls(ctx context.Context, rows []Row, query string, args ...any) ([]Row, error) {
	found, err := d.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		r, err := scanCall(found)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

func scanCall(found *sql.Rows) (r Row, err error) {
	var at string
	var first, wait sql.NullInt64
	var duration int64
	var attempts sql.NullString
	if err := found.Scan(&at, &r.Number, &r.Request, &r.Key, &r.Route, &r.Model, &r.Backend, &r.Served, &r.Reason, &r.Status,
		&r.Stream, &r.Local, &r.LocalPrimary, &r.Paid, &r.Resumed, &r.Partial,
		&r.Prompt, &r.Cached, &r.Completion, &r.Cost, &r.Charged, &r.Saved, &first, &duration, &wait, &attempts); err != nil {
		return Row{}, err
	}
	if r.Time, err = time.Parse(timeFormat, at); err != nil {
		return Row{}, err
	}
	r.FirstAnswer, r.Wait, r.Duration = milliseconds(first.Int64), milliseconds(wait.Int64), milliseconds(duration)
	if attempts.Valid {
		_ = json.Unmarshal([]byte(attempts.String), &r.Attempts) // users may have written something else
	}
	return r, nil
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
