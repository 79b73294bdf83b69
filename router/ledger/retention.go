package ledger

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// SetRetention changes how long rows are kept; 0 = for ever. Rows that are deleted
// already stay deleted.
func (l *Ledger) SetRetention(keep time.Duration) {
	if time.Duration(l.retention.Swap(int64(keep))) == keep {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleteAt = time.Time{}
	wake(l.wakeCommitter)
}

const (
	deleteEvery = time.Hour
	// deleteAtOnce is how many rows are deleted in a transaction, and so how long the
	// rows of new calls wait for it.
	deleteAtOnce = 10_000
)

// deleteOld deletes some of the rows that are older than they are kept, whole days
// of them: the sums of a part of a day come from its rows. It runs only when all
// journal files are imported: a row that was deleted would be stored again.
func (l *Ledger) deleteOld() error {
	more, keep := false, time.Duration(l.retention.Load())
	if keep > 0 && !l.skippedFile {
		since := l.opts.now().Add(-keep).UnixMilli() / journal.DayLength
		var err error
		if more, err = l.database.Load().deleteBefore(since, deleteAtOnce); err != nil {
			return err
		}
	}
	if !more {
		l.mu.Lock()
		defer l.mu.Unlock()
		if keep == time.Duration(l.retention.Load()) {
			l.deleteAt = time.Now().Add(deleteEvery)
		}
	}
	return nil
}

// deleteBefore deletes n rows of the days before one, and says whether there may
// be more. The days' sums stay.
func (d *database) deleteBefore(day int64, n int) (more bool, err error) {
	err = d.transaction(func(ctx context.Context) error {
		if _, err := d.conn.ExecContext(ctx, "UPDATE kept SET since = max(since, ?)", day); err != nil {
			return err
		}
		result, err := d.conn.ExecContext(ctx, "DELETE FROM calls WHERE (time, id) IN (SELECT time, id FROM calls WHERE time < ? LIMIT ?)", timeText(day*journal.DayLength), n)
		if err != nil {
			return err
		}
		deleted, err := result.RowsAffected()
		more = deleted == int64(n)
		return err
	})
	return more && err == nil, err
}
