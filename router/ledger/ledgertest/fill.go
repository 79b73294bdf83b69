package ledgertest

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"
)

// Fill adds so many calls of the 40 days before now to the ledger in a state directory, and
// their sums. A llmsup has created the database, and none has it open.
func Fill(t testing.TB, state string, n int, now time.Time) {
	t.Helper()
	query := url.Values{"_pragma": {"busy_timeout(5000)", "synchronous(OFF)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(state, "ledger", "ledger.db")}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const period = 40 * 24 * time.Hour
	for _, text := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49)
INSERT INTO kind (id, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial)
SELECT i + 1000, 'key' || (i % 5), 'route' || i, 'model' || (i % 7), 'backend' || (i % 2), 'served', CASE i % 4 WHEN 0 THEN 'timeout' ELSE '' END, 200, 1, i % 2, 1, 1 - i % 2, 0, 0 FROM n`,
		fmt.Sprintf(`WITH RECURSIVE n(i, t) AS (SELECT 0, %d UNION ALL SELECT i + 1, t + %d FROM n WHERE i < %d)
INSERT INTO calls (time, id, request, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial, prompt, cached, completion, cost, charged, saved, first_ms, ms)
SELECT strftime('%%Y-%%m-%%dT%%H:%%M:%%fZ', t / 1000.0, 'unixepoch'), i, 'request' || i, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial,
	1000, 0, 20, 1234567, 1234567, NULL, 300, 1000
FROM n CROSS JOIN kind ON kind.id = i %% 50 + 1000`, now.Add(-period).UnixMilli(), period.Milliseconds()/int64(n), n-1),
		`INSERT INTO day (day, kind, calls, prompt, cached, completion, no_tokens, cost, no_cost, saved, no_saved, answers, first_ms, ms, charged)
SELECT unixepoch(calls.time) / 86400, kind.id, count(*), sum(prompt), sum(cached), sum(completion), 0, sum(cost), 0, 0, count(*), count(*), sum(first_ms), sum(ms), sum(charged)
FROM calls JOIN kind USING ("key", route, model, backend, served, reason) WHERE kind.id >= 1000 GROUP BY 1, 2`,
	} {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}
