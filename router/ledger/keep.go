package ledger

import (
	"context"
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
	// deleteAtOnce is how many batches are deleted at once, and so how long the rows
	// that come wait for it.
	deleteAtOnce = 100
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
		if more, err = l.database.Load().deleteBefore(since, deleteAtOnce); err != nil {
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

// deleteBefore deletes n batches of the days before one, and says whether there may
// be more. The days' sums stay.
func (d *database) deleteBefore(day int64, n int) (more bool, err error) {
	err = d.transaction(func(ctx context.Context) error {
		if _, err := d.conn.ExecContext(ctx, "UPDATE kept SET since = max(since, ?)", day); err != nil {
			return err
		}
		result, err := d.conn.ExecContext(ctx, "DELETE FROM batch WHERE id IN (SELECT id FROM batch WHERE day < ? LIMIT ?)", day, n)
		if err != nil {
			return err
		}
		deleted, err := result.RowsAffected()
		more = deleted == int64(n)
		return err
	})
	return more && err == nil, err
}
