package ledger

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// SetKeep changes how long rows are kept; 0 = for ever. What is deleted by now
// stays so.
func (l *Ledger) SetKeep(keep time.Duration) {
	if time.Duration(l.keep.Swap(int64(keep))) == keep {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleteAt = time.Time{}
	wake(l.wakeCommitter)
}

const (
	deleteEvery = time.Hour
	// deleteBatch is how many rows are deleted at once, and so how long those that
	// come wait for it.
	deleteBatch = 2000
)

// deleteOld deletes some of the rows that are older than they are kept, whole days
// of them: the sums of a part of a day come from its rows. It runs only when all
// that was spilled is read back: a row that is deleted is not known any more when
// it comes again.
func (l *Ledger) deleteOld() error {
	l.keepRoom()
	more, keep := false, time.Duration(l.keep.Load())
	if keep > 0 && !l.passedOver {
		since := l.opts.now().Add(-keep).UnixMilli() / dayLength
		var err error
		if more, err = l.database.Load().deleteBefore(since, deleteBatch); err != nil {
			return err
		}
	}
	if !more {
		l.mu.Lock()
		defer l.mu.Unlock()
		if keep == time.Duration(l.keep.Load()) {
			l.deleteAt = time.Now().Add(deleteEvery)
		}
	}
	return nil
}

// deleteBefore deletes about n rows of the days before one, and says whether there
// are more. The days' sums stay.
func (d *database) deleteBefore(day int64, n int) (more bool, err error) {
	err = d.transaction(func(ctx context.Context) error {
		before := day * dayLength
		var last int64
		err := d.conn.QueryRowContext(ctx, "SELECT time FROM call WHERE time < ? ORDER BY time LIMIT 1 OFFSET ?", before, n).Scan(&last)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		default:
			before, more = last+1, true
		}
		if _, err := d.conn.ExecContext(ctx, "UPDATE kept SET since = max(since, ?)", day); err != nil {
			return err
		}
		_, err = d.conn.ExecContext(ctx, "DELETE FROM call WHERE time < ?", before)
		return err
	})
	return more && err == nil, err
}
