package ledger

import (
	"context"
	"time"
)

// maxConvertTime is about how long a transaction that converts may take: rows of new
// calls wait for it.
const maxConvertTime = 50 * time.Millisecond

const (
	hasTable = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'batch'`
	// The latest first: users ask for them.
	batchesToConvert = `batch.id IN (SELECT id FROM batch WHERE json_valid(calls) ORDER BY id DESC LIMIT ?)`
	convertCalls     = `
INSERT OR IGNORE INTO calls (time, id, request, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial,
	prompt, cached, completion, cost, charged, saved, first_ms, ms)
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', (day * 86400000 + (c.value ->> 0)) / 1000.0, 'unixepoch'), run << 32 | (c.value ->> 1), c.value ->> 2,
	kind."key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial,
	c.value ->> 3, c.value ->> 4, c.value ->> 5, c.value ->> 6, coalesce(c.value ->> 10, c.value ->> 6), c.value ->> 7, c.value ->> 8, c.value ->> 9
FROM batch JOIN kind ON kind.id = batch.kind, json_each(calls) AS c
WHERE ` + batchesToConvert
	deleteConverted = `DELETE FROM batch WHERE ` + batchesToConvert
)

// hasBatch returns whether there is a table batch with calls. It drops an empty one.
func (d *database) hasBatch(ctx context.Context) (bool, error) {
	var tables, rows int
	if err := d.conn.QueryRowContext(ctx, hasTable).Scan(&tables); err != nil || tables == 0 {
		return false, err
	}
	if err := d.conn.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM batch LIMIT 1)").Scan(&rows); err != nil || rows > 0 {
		return true, err
	}
	_, err := d.conn.ExecContext(ctx, "DROP TABLE batch")
	return false, err
}

// convertRetry is the pause after a conversion that failed.
const convertRetry = 10 * time.Minute

// convert converts some rows of the table batch.
func (c *committer) convert(now time.Time) error {
	d := c.database.Load()
	more, err := d.convert()
	switch {
	case more || isBusy(err):
		return err
	case err != nil: // the database may work otherwise
		c.convertAt = now.Add(convertRetry)
		c.log.Error().Err(err).Stringer("next_try", convertRetry).Msg("the ledger cannot convert the calls of an earlier version; only the sums of days have them")
		return nil
	default:
		c.log.Info().Int64("batches", d.converted).Msg("the ledger's database now has one row per call; it reuses its free space")
	}
	d.converting = false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.converting = false
	c.announce()
	return nil
}

// convert moves calls from some rows of the table batch, where an earlier llmsup stored
// them as JSON arrays, to the table calls. more is true if there may be others. It runs in
// one transaction, so a crash costs nothing. A row that is not valid JSON stays in the
// table batch; the sums of its day include its calls.
func (d *database) convert() (more bool, err error) {
	began := time.Now()
	err = d.transaction(func(ctx context.Context) error {
		if _, err := d.conn.ExecContext(ctx, convertCalls, d.convertRows); err != nil {
			return err
		}
		result, err := d.conn.ExecContext(ctx, deleteConverted, d.convertRows)
		if err != nil {
			return err
		}
		converted, err := result.RowsAffected()
		if err != nil {
			return err
		}
		d.converted += converted
		if more = converted > 0; more {
			return nil
		}
		var left int
		if err := d.conn.QueryRowContext(ctx, "SELECT count(*) FROM batch").Scan(&left); err != nil {
			return err
		}
		if left > 0 {
			d.log.Error().Int("rows", left).Msg("some rows of the table batch in the ledger's database are not valid JSON; they stay there, and the table calls lacks their calls")
			return nil
		}
		_, err = d.conn.ExecContext(ctx, "DROP TABLE batch")
		return err
	})
	// A row of the table batch has between one and 1,024 calls.
	if duration := time.Since(began); duration < maxConvertTime/2 {
		d.convertRows *= 2
	} else if duration > maxConvertTime {
		d.convertRows = max(d.convertRows/2, 1)
	}
	return more && err == nil, err
}
