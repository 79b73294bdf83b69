package ledger

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// converted waits until a ledger has converted the calls of an earlier version.
func converted(t *testing.T, l *Ledger) {
	t.Helper()
	synced(t, l)
	await(t, "the calls are converted", func() bool { return !l.State().Converting })
}

// atVersion makes a database of an earlier version.
func atVersion(t *testing.T, dir string, version int, texts ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName), "journal_mode(WAL)"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrate(t.Context(), conn, migrations[:version]), conn.Close()); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if _, err := db.Exec(text); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
}

// The first version's rows are calls afterwards, every one as it was.
func TestFromTheFirstVersion(t *testing.T) {
	dir := t.TempDir()
	const n = 5000
	now := time.Now().UnixMilli()
	atVersion(
		t, dir, 1,
		`INSERT INTO kind VALUES (1, 'tool', 'gpt-4o', 'gpt-4o', 'cloud', 'openai/gpt-4o', '', 200, 0, 0, 0, 1, 0, 0), (2, '', 'local/*', 'local/q', 'q', 'q', '', 200, 1, 1, 1, 0, 0, 0)`,
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
INSERT INTO call SELECT %d - i * 70000, (9 << 32) + i, i %% 2 + 1, 'r' || i, i, NULL, 20, i * 1000000007, 5, CASE i %% 3 WHEN 0 THEN NULL ELSE 30 END, i FROM n`, n, now),
		`INSERT INTO day SELECT time / 86400000, kind, count(*), sum(prompt), 0, sum(completion), 0, sum(cost), 0, sum(saved), 0, count(first_ms), sum(first_ms), sum(ms) FROM call GROUP BY 1, 2`,
	)
	all := func(from string) (text string) {
		withDatabase(t, dir, func(db *sql.DB) error {
			return db.QueryRow(`SELECT group_concat(t || ' ' || id || ' ' || k || ' ' || request || ' ' || prompt || coalesce(cached, '-') || completion || ' ' || cost || saved || coalesce(first_ms, '-') || ms)
FROM (SELECT * FROM (` + from + `) ORDER BY t, id)`).Scan(&text)
		})
		return text
	}
	before := all(`SELECT strftime('%Y-%m-%dT%H:%M:%fZ', time / 1000.0, 'unixepoch') AS t, "key" || model || status || local || paid AS k, call.id, request, prompt, cached, completion, cost, saved, first_ms, ms FROM call JOIN kind ON kind.id = kind`)
	l, output := open(t, dir, Options{})
	converted(t, l)
	after := all(`SELECT time AS t, "key" || model || status || local || paid AS k, id, request, prompt, cached, completion, cost, saved, first_ms, ms FROM calls`)
	if before != after || strings.Count(after, ",") != n-1 {
		t.Errorf("%d bytes of rows became %d", len(before), len(after))
	}
	if found := requests(t, dir); len(found) != n {
		t.Errorf("%d rows", len(found))
	}
	u := usage(t, l, time.UnixMilli(now-n*35000), time.Time{}, ByModel)
	if u.Total.Calls != n/2 || u.Total.Charged != u.Total.Cost {
		t.Errorf("half of the time has %+v", u.Total)
	}
	if strings.Count(output.String(), "one row per call") != 1 {
		t.Errorf("logged %s", output)
	}
}

// What is not valid JSON stays in the table batch, and costs nothing else: the sums of
// whole days, which budgets live by, have its calls all the same.
func TestDamagedBatch(t *testing.T) {
	dir := t.TempDir()
	day := time.Now().UnixMilli()/journal.DayLength - 1
	atVersion(
		t, dir, 3,
		`INSERT INTO kind VALUES (1, 'tool', 'gpt-4o', 'gpt-4o', 'cloud', 'openai/gpt-4o', '', 200, 0, 0, 0, 1, 0, 0)`,
		fmt.Sprintf(`INSERT INTO batch VALUES (1, %[1]d, 1, 7, 0, 9, '[[0,1,"first",1,0,2,5,null,30,40],[9,2,"second",1,0,2,null,null,null,40,6]]'), (2, %[1]d, 1, 7, 0, 9, '[[0,3,"damaged'),
(3, %[1]d, 1, 7, 0, 9, '[[1],7,{"a":1},[0,4,"third",1,0,2,5,null,30,40]]')`, day),
		fmt.Sprintf(`INSERT INTO day VALUES (%d, 1, 4, 4, 0, 8, 0, 15, 1, 0, 4, 3, 90, 160, 21)`, day),
	)
	for range 2 {
		l, output := open(t, dir, Options{})
		converted(t, l)
		if strings.Count(output.String(), "not valid JSON") != 1 {
			t.Errorf("logged %s", output)
		}
		if spent, err := l.Spent(t.Context(), time.UnixMilli(0), time.Now().Add(time.Hour)); err != nil || spent["tool"] != 21 {
			t.Errorf("%v is spent, %v", spent, err)
		}
		closeLedger(t, l)
	}
	withDatabase(t, dir, func(db *sql.DB) error {
		var calls, left string
		err := db.QueryRow("SELECT (SELECT group_concat(request || coalesce(cost, '-') || charged || coalesce(first_ms, '-')) FROM calls), (SELECT group_concat(calls) FROM batch)").Scan(&calls, &left)
		if calls != "first5530,third5530,second-6-" || left != `[[0,3,"damaged` {
			t.Errorf("calls %s, left %s", calls, left)
		}
		return err
	})
}

// New rows are stored while the old ones are converted, and a crash in the middle
// loses none.
func TestConvertingIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	const n = 100
	atVersion(
		t, dir, 3,
		`INSERT INTO kind VALUES (1, 'tool', 'gpt-4o', 'gpt-4o', 'cloud', 'openai/gpt-4o', '', 200, 0, 0, 0, 1, 0, 0)`,
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
INSERT INTO batch SELECT i, 20000, 1, 7, i, i, json_array(json_array(i, i, 'r' || i, 1, 0, 2, 5, NULL, 30, 40)) FROM n`, n),
		fmt.Sprintf(`INSERT INTO day VALUES (20000, 1, %d, 0, 0, 0, 0, %d, 0, 0, 0, 0, 0, 0, %d)`, n, 5*n, 5*n),
	)
	d, err := openDatabase(filepath.Join(dir, databaseName), migrations, newLedger(dir, Options{}).log)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.convertRows = 8
		if more, err := d.convert(); err != nil || !more {
			t.Fatal(more, err)
		}
	}
	if err := d.store([]*journal.Entry{full(1, "new")}); err != nil {
		t.Fatal(err)
	}
	d.close()
	if found := countCalls(t, dir); found != 3*8+1 {
		t.Fatalf("%d calls are converted", found)
	}
	l, _ := open(t, dir, Options{})
	converted(t, l)
	closeLedger(t, l)
	if found := requests(t, dir); len(found) != n+1 {
		t.Errorf("%d rows", len(found))
	}
}

// countCalls counts the rows of the table calls.
func countCalls(t *testing.T, dir string) (n int) {
	t.Helper()
	withDatabase(t, dir, func(db *sql.DB) error { return db.QueryRow("SELECT count(*) FROM calls").Scan(&n) })
	return n
}

// A database that commit 1edb9ab has written: its calls are in the table calls, the
// sums are those that it printed, and the table calls adds up to the same.
func TestFromAnEarlierBuild(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/ledger-1edb9ab.sql")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/ledger-1edb9ab.json")
	if err != nil {
		t.Fatal(err)
	}
	var printed map[By]Usage
	if err := json.Unmarshal(bytes.ReplaceAll(raw, []byte(":null"), []byte(":0")), &printed); err != nil {
		t.Fatal(err)
	}
	atVersion(t, dir, 0, string(text))
	l, _ := open(t, dir, Options{})
	converted(t, l)
	for by, want := range printed {
		got := usage(t, l, want.From, want.To.Add(time.Hour), by)
		if len(got.Groups) != len(want.Groups) || len(want.Groups) == 0 {
			t.Fatalf("%d groups by %s, want %d", len(got.Groups), by, len(want.Groups))
		}
		got.Groups = append(got.Groups, Group{"total", got.Total})
		for i, want := range append(want.Groups, Group{"total", want.Total}) {
			// What that build did not print.
			want.Charged, want.Answers, want.FirstAnswer, want.Duration = want.Cost, got.Groups[i].Answers, got.Groups[i].FirstAnswer, got.Groups[i].Duration
			if got.Groups[i] != want {
				t.Errorf("by %s: %+v, want %+v", by, got.Groups[i], want)
			}
		}
	}
	closeLedger(t, l)
	if n := countCalls(t, dir); int64(n) != printed[ByModel].Total.Calls {
		t.Errorf("%d rows, want %d", n, printed[ByModel].Total.Calls)
	}
	withDatabase(t, dir, func(db *sql.DB) error {
		const sums = `count(*), sum(ifnull(cost, 0)), sum(ifnull(saved, 0)), sum(ifnull(prompt, 0)), sum(ifnull(completion, 0)), sum(ifnull(first_ms, 0)), sum(ms), sum(ifnull(charged, 0)), sum(cost IS NULL)`
		const days = `sum(calls), sum(cost), sum(saved), sum(prompt), sum(completion), sum(first_ms), sum(ms), sum(charged), sum(no_cost)`
		for _, by := range []string{`substr(time, 1, 10)`, `"key"`, "model", "reason", "status"} {
			var differ int
			ofDays := strings.Replace(by, "substr(time, 1, 10)", "date(day * 86400, 'unixepoch')", 1)
			if err := db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM (SELECT %s, %s FROM calls GROUP BY 1 EXCEPT SELECT %s, %s FROM day JOIN kind ON kind.id = day.kind GROUP BY 1)`, by, sums, ofDays, days)).Scan(&differ); err != nil || differ > 0 {
				t.Errorf("%d sums by %s differ between calls and days, %v", differ, by, err)
			}
		}
		return nil
	})
}
