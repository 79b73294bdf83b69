package ledger

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations bring the database to the present version, each from the version before.
// PRAGMA user_version counts them. A migration that was released never changes: add a new
// one.
var migrations = []string{
	`
-- What calls have in common that are added up together.
CREATE TABLE kind (
	id      INTEGER PRIMARY KEY,
	"key"   TEXT NOT NULL,    -- the name of the caller's key; '' = none
	route   TEXT NOT NULL,    -- the pattern that matched
	model   TEXT NOT NULL,    -- as the caller named it
	backend TEXT NOT NULL,    -- who answered; '' = nobody
	served  TEXT NOT NULL,    -- the model's name there
	reason  TEXT NOT NULL,    -- why not the primary; '' = it did
	status  INTEGER NOT NULL, -- HTTP
	stream  INTEGER NOT NULL,
	local   INTEGER NOT NULL, -- a server of llmsup's own answered
	meant   INTEGER NOT NULL, -- for one of those: it is the primary of the route
	paid    INTEGER NOT NULL, -- somebody who takes money was asked
	resumed INTEGER NOT NULL, -- it broke, and somebody else went on
	partial INTEGER NOT NULL, -- it was cut or cancelled
	UNIQUE ("key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial)
);

-- One row a call. Amounts are in picodollars (1e-12 USD); NULL = not known.
CREATE TABLE call (
	time       INTEGER NOT NULL, -- when it came, Unix milliseconds
	id         INTEGER NOT NULL, -- of the row, given when it was recorded
	kind       INTEGER NOT NULL REFERENCES kind,
	request    TEXT NOT NULL,    -- X-Request-Id
	prompt     INTEGER,          -- tokens, cached ones included
	cached     INTEGER,
	completion INTEGER,
	cost       INTEGER,
	saved      INTEGER,
	first_ms   INTEGER,          -- NULL = there was no answer
	ms         INTEGER NOT NULL,
	PRIMARY KEY (time, id)
) WITHOUT ROWID;

-- The sums of every day (UTC, counted from 1970), those of rows that are deleted
-- by now included.
CREATE TABLE day (
	day        INTEGER NOT NULL,
	kind       INTEGER NOT NULL REFERENCES kind,
	calls      INTEGER NOT NULL,
	prompt     INTEGER NOT NULL,
	cached     INTEGER NOT NULL,
	completion INTEGER NOT NULL,
	no_tokens  INTEGER NOT NULL, -- calls of which they are not known
	cost       INTEGER NOT NULL,
	no_cost    INTEGER NOT NULL,
	saved      INTEGER NOT NULL,
	no_saved   INTEGER NOT NULL,
	answers    INTEGER NOT NULL, -- calls with a first answer
	first_ms   INTEGER NOT NULL,
	ms         INTEGER NOT NULL,
	PRIMARY KEY (day, kind)
) WITHOUT ROWID;

-- From which day on the rows of calls are here.
CREATE TABLE kept (since INTEGER NOT NULL);
INSERT INTO kept VALUES (0);

-- For people.
CREATE VIEW calls AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', time / 1000.0, 'unixepoch') AS time, request, "key", route, model, backend, served, reason,
	status, stream, local, meant, paid, resumed, partial, prompt, cached, completion, cost / 1e12 AS cost_usd, saved / 1e12 AS saved_usd, first_ms, ms
FROM call JOIN kind ON kind.id = call.kind;
`,
	`
-- Calls of one kind that were written together. A row for each cost thrice the CPU.
CREATE TABLE batch (
	id    INTEGER PRIMARY KEY,
	day   INTEGER NOT NULL, -- on which all of them came
	kind  INTEGER NOT NULL REFERENCES kind,
	run   INTEGER NOT NULL, -- of the llmsup that recorded them: the upper half of their ids
	since INTEGER NOT NULL, -- when the first of them came, in milliseconds of the day
	until INTEGER NOT NULL, -- and the last, within the same ten minutes
	calls TEXT NOT NULL     -- a JSON array of an array for each; the view call says of what
);
DROP VIEW calls;
ALTER TABLE call RENAME TO row;
INSERT INTO batch (day, kind, run, since, until, calls)
SELECT time / 86400000, kind, id >> 32, min(time) % 86400000, max(time) % 86400000,
	json_group_array(json_array(time % 86400000, id & 0xffffffff, request, prompt, cached, completion, cost, saved, first_ms, ms))
FROM row GROUP BY time / 86400000, kind, id >> 32, time / 60000;
DROP TABLE row;
CREATE INDEX batch_until ON batch (day, until);

-- One row a call, as they were before.
CREATE VIEW call AS
SELECT day * 86400000 + (c.value ->> 0) AS time, run << 32 | (c.value ->> 1) AS id, kind, c.value ->> 2 AS request,
	c.value ->> 3 AS prompt, c.value ->> 4 AS cached, c.value ->> 5 AS completion, c.value ->> 6 AS cost, c.value ->> 7 AS saved,
	c.value ->> 8 AS first_ms, c.value ->> 9 AS ms
FROM batch, json_each(CASE WHEN json_valid(calls) THEN calls ELSE '[]' END) AS c;

-- For people.
CREATE VIEW calls AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', time / 1000.0, 'unixepoch') AS time, request, "key", route, model, backend, served, reason,
	status, stream, local, meant, paid, resumed, partial, prompt, cached, completion, cost / 1e12 AS cost_usd, saved / 1e12 AS saved_usd, first_ms, ms
FROM call JOIN kind ON kind.id = call.kind;
`,
	`
-- What budgets count. Of a call whose cost is not known it is an eleventh value in
-- the text of its batch.
ALTER TABLE day ADD COLUMN charged INTEGER NOT NULL DEFAULT 0;
UPDATE day SET charged = cost;
DROP VIEW calls;
DROP VIEW call;

-- One row a call.
CREATE VIEW call AS
SELECT day * 86400000 + (c.value ->> 0) AS time, run << 32 | (c.value ->> 1) AS id, kind, c.value ->> 2 AS request,
	c.value ->> 3 AS prompt, c.value ->> 4 AS cached, c.value ->> 5 AS completion, c.value ->> 6 AS cost, c.value ->> 7 AS saved,
	c.value ->> 8 AS first_ms, c.value ->> 9 AS ms, coalesce(c.value ->> 10, c.value ->> 6) AS charged
FROM batch, json_each(CASE WHEN json_valid(calls) THEN calls ELSE '[]' END) AS c;

-- For people.
CREATE VIEW calls AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', time / 1000.0, 'unixepoch') AS time, request, "key", route, model, backend, served, reason,
	status, stream, local, meant, paid, resumed, partial, prompt, cached, completion, cost / 1e12 AS cost_usd, saved / 1e12 AS saved_usd, first_ms, ms,
	charged / 1e12 AS charged_usd
FROM call JOIN kind ON kind.id = call.kind;
`,
	`
-- One row a call, as users read it. Amounts are stored in picodollars (1e-12 USD),
-- so that sums are exact; NULL = not known. Calls that are still in the table batch
-- are converted afterwards (convert.go).
DROP VIEW calls;
DROP VIEW call;
CREATE TABLE calls (
	time        TEXT NOT NULL,    -- when the call came, UTC, as in 2026-11-29T08:15:00.123Z
	id          INTEGER NOT NULL, -- of the row, given when it was recorded
	request     TEXT NOT NULL,    -- X-Request-Id
	"key"       TEXT NOT NULL,    -- the name of the client's key; '' = none
	route       TEXT NOT NULL,    -- the pattern that matched
	model       TEXT NOT NULL,    -- as the client named it
	backend     TEXT NOT NULL,    -- which backend answered; '' = none
	served      TEXT NOT NULL,    -- the model's name there
	reason      TEXT NOT NULL,    -- why the primary did not answer; '' = it did
	status      INTEGER NOT NULL, -- HTTP
	stream      INTEGER NOT NULL,
	local       INTEGER NOT NULL, -- a server of llmsup's own answered
	meant       INTEGER NOT NULL, -- the primary of the route is a server of llmsup's own
	paid        INTEGER NOT NULL, -- a paid upstream was asked
	resumed     INTEGER NOT NULL, -- the answer broke, and another backend continued it
	partial     INTEGER NOT NULL, -- the answer was cut or canceled
	prompt      INTEGER,          -- tokens, cached ones included
	cached      INTEGER,
	completion  INTEGER,
	cost        INTEGER,          -- picodollars
	charged     INTEGER,          -- what budgets count
	saved       INTEGER,          -- what the fallback would have charged
	first_ms    INTEGER,          -- until the first answer; NULL = there was none
	ms          INTEGER NOT NULL, -- in all
	cost_usd    REAL AS (cost / 1e12),
	charged_usd REAL AS (charged / 1e12),
	saved_usd   REAL AS (saved / 1e12),
	PRIMARY KEY (time, id)        -- so rows are stored by time, and each once
) WITHOUT ROWID;
`,
	`
-- How long the call waited for a slot of a local server or for its model, all attempts
-- together, in milliseconds; NULL = it did not, or an earlier llmsup recorded it.
ALTER TABLE calls ADD COLUMN wait_ms INTEGER;
`,
	`
-- The attempts at the call, a JSON array of objects; NULL = the only attempt answered, there
-- was none, or an earlier llmsup recorded the call.
ALTER TABLE calls ADD COLUMN attempts TEXT;
`,
}

// NewerDatabaseError is the error of a database that a newer llmsup wrote.
type NewerDatabaseError struct{ has, knows int }

func (e *NewerDatabaseError) Error() string {
	return fmt.Sprintf("a newer llmsup wrote it (version %d, this llmsup supports %d): run that llmsup, or move the file away", e.has, e.knows)
}

// ForeignDatabaseError is the error of a database that another program wrote.
type ForeignDatabaseError struct{}

func (e *ForeignDatabaseError) Error() string {
	return "it is another program's database: move the file away"
}

// migrate brings a database to the present version, each step in one transaction. It
// changes nothing in a database of a newer llmsup or of another program.
func migrate(ctx context.Context, conn *sql.Conn, steps []string) error {
	var has, tables int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&has); err != nil {
		return err
	}
	if has > len(steps) {
		return &NewerDatabaseError{has, len(steps)}
	}
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if has == 0 && tables > 0 || has < 0 {
		return &ForeignDatabaseError{}
	}
	for ; has < len(steps); has++ {
		step := fmt.Sprintf("BEGIN IMMEDIATE;\n%s;\nPRAGMA user_version = %d;\nCOMMIT", steps[has], has+1)
		if _, err := conn.ExecContext(ctx, step); err != nil {
			_, _ = conn.ExecContext(ctx, "ROLLBACK") // fails if there is nothing to roll back
			return fmt.Errorf("migrate it to version %d: %w", has+1, err)
		}
	}
	return nil
}
