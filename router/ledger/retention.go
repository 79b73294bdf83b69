package ledger

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// SetRetention changes how long rows are kept; 0 = for ever.
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
	// maxDeleted is how many rows are deleted in one transaction: rows of new calls wait
	// for it.
	maxDeleted = 10_000
)

// deleteOld deletes some of the rows that are older than the retention, by whole days: the
// sums of a part of a day are computed from its rows. It runs only when all journal files
// are imported, since an import would store a deleted row again.
func (l *Ledger) deleteOld() error {
	more, keep := false, time.Duration(l.retention.Load())
	if keep > 0 && !l.skippedFile {
		since := l.opts.now().Add(-keep).UnixMilli() / journal.DayLength
		var err error
		if more, err = l.database.Load().deleteBefore(since, maxDeleted); err != nil {
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

// deleteBefore deletes n rows of the days before day. more is true if there may be others.
// The sums of the days stay.
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
