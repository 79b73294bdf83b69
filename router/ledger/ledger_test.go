package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	var want []string
	for i := range 3000 {
		l.Record(free(fmt.Sprint("f", i)))
		want = append(want, fmt.Sprint("f", i))
	}
	for i := range 20 {
		written(t, l.Record(paid(fmt.Sprint("p", i), usd.Amount(i))))
		want = append(want, fmt.Sprint("p", i))
	}
	synced(t, l)
	once(t, dir, want)
	u := usage(t, l, time.Time{}, time.Time{}, ByModel)
	if len(u.Groups) != 2 || u.Groups[0].Name != "gpt-4o" || u.Groups[1].Name != "local/qwen" {
		t.Fatalf("groups %+v", u.Groups)
	}
	if got, want := u.Groups[0].Sums, (Sums{
		Calls: 20, Paid: 20, Prompt: 20_000, Completion: 400, Cost: 190, Charged: 190, Answers: 20, FirstAnswer: 6 * time.Second, Duration: 20 * time.Second,
	}); got != want {
		t.Errorf("paid ones %+v, want %+v", got, want)
	}
	if got, want := u.Groups[1].Sums, (Sums{
		Calls: 3000, Local: 3000, Prompt: 30_000, Completion: 15_000, Saved: 3000 * 1_234_567, Answers: 3000, FirstAnswer: time.Minute, Duration: 2 * time.Minute,
	}); got != want {
		t.Errorf("free ones %+v, want %+v", got, want)
	}
	closeLedger(t, l)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || files[0].Name() != databaseName {
		t.Errorf("left behind: %v, %v", files, err)
	}
	again, _ := open(t, dir, Options{})
	synced(t, again)
	if got := usage(t, again, time.Time{}, time.Time{}, ByModel); got.Total != u.Total {
		t.Errorf("after a restart the total is %+v, want %+v", got.Total, u.Total)
	}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is readable for others: %v, %v", name, info, err)
		}
	}
}

// A row is in the journal when its receipt says so, whether it was paid for or not.
func TestRowIsInTheJournal(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{interval: time.Hour})
	synced(t, l)
	for _, row := range []Row{free("f"), paid("p", 1)} {
		if !l.Record(row).Wait() {
			t.Fatal("a row is not written")
		}
		var text []byte
		for _, name := range journals(t, dir) {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, raw...)
		}
		if !strings.Contains(string(text), `"request":"`+row.Request+`"`) {
			t.Errorf("%s is not in the journal:\n%s", row.Request, text)
		}
	}
	if len(requests(t, dir)) != 0 {
		t.Error("rows are committed before their time")
	}
}

// What is not known is counted, and is no 0.
func TestUnknown(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	rows := map[string]Row{"all": paid("all", 5), "nothing": paid("nothing", 0), "local": free("local"), "failed": free("failed"), "nonsense": paid("nonsense", -1)}
	for name, change := range map[string]func(*Row){
		"nothing": func(r *Row) {
			r.Cost, r.Charged, r.Prompt, r.Cached, r.Completion, r.FirstAnswer = nil, new(usd.Amount(7)), nil, nil, nil, 0
		},
		"local":    func(r *Row) { r.Saved, r.Cost = nil, nil },
		"failed":   func(r *Row) { r.Saved, r.Status = nil, 503 },
		"nonsense": func(r *Row) { r.Prompt, r.Saved, r.Duration = new(int64(-1)), new(2*usd.Max), -1 },
		"all":      func(r *Row) { r.Cached = new(*r.Prompt + 1) }, // of them
	} {
		r := rows[name]
		change(&r)
		rows[name] = r
	}
	for _, r := range rows {
		l.Record(r)
	}
	synced(t, l)
	got := usage(t, l, time.Time{}, time.Time{}, ByModel).Total
	if want := (Sums{
		Calls: 5, Failed: 1, Local: 2, Paid: 3, Prompt: 1020, Completion: 50, UnknownTokens: 2, Cost: 5, Charged: 12, UnknownCost: 2, UnknownSaved: 1,
		Answers: 4, FirstAnswer: 640 * time.Millisecond, Duration: 2080 * time.Millisecond,
	}); got != want {
		t.Errorf("total %+v, want %+v", got, want)
	}
	withDatabase(t, dir, func(db *sql.DB) error {
		var nulls int
		if err := db.QueryRow("SELECT count(*) FROM calls WHERE cost_usd IS NULL AND request IN ('nothing', 'nonsense', 'local')").Scan(&nulls); err != nil || nulls != 3 {
			t.Errorf("%d unknown costs, %v", nulls, err)
		}
		return nil
	})
}

func TestLongAndStrangeTexts(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	r := free(strings.Repeat("é", 150))
	r.Model, r.Key, r.Time = "a\x00b\xff", strings.Repeat("x", 1000), time.Unix(-5, 0)
	l.Record(r)
	synced(t, l)
	u := usage(t, l, time.Time{}, time.Time{}, ByModel)
	if len(u.Groups) != 1 || u.Groups[0].Name != "a?b?" || u.Groups[0].Calls != 1 {
		t.Errorf("groups %+v", u.Groups)
	}
	if u := usage(t, l, time.Time{}, time.Time{}, ByKey); len(u.Groups[0].Name) != journal.MaxText {
		t.Errorf("key %q", u.Groups[0].Name)
	}
}

// Recording into a closed ledger, or without one, waits for nothing.
func TestClosed(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir, Options{})
	r := l.Record(paid("at once", 1))
	closeLedger(t, l)
	written(t, r)
	late := l.Record(paid("late", 1))
	if l.State().Lost != 1 || late.Wait() {
		t.Errorf("a row after the end: %+v", l.State())
	}
	closeLedger(t, l)
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByDay); err == nil {
		t.Error("a closed ledger adds up")
	}
	again, _ := open(t, dir, Options{})
	synced(t, again)
	once(t, dir, []string{"at once"})

	var none *Ledger
	none.Record(free("f"))
	if r := none.Record(paid("p", 1)); !r.Wait() || none.State() != (State{}) {
		t.Error("without a ledger a call waits for it")
	}
	none.Record(paid("p", 1)).Wait()
}

func TestSyncGivesUp(t *testing.T) {
	l, _ := open(t, t.TempDir(), Options{migrations: []string{"nonsense"}})
	awaitCondition(t, l, Spilling, "migrate it to version 1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Sync(ctx); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("error %v", err)
	}
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByDay); err == nil || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("error %v", err)
	}
}

func TestSpent(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	a, b := paid("a", 5), paid("b", 7)
	b.Key = ""
	yesterday, before, later := paid("yesterday", 100), paid("before", 1000), paid("later", 10_000)
	yesterday.Time, before.Time, later.Time = a.Time.Add(-24*time.Hour), a.Time.Add(-48*time.Hour), a.Time.Add(time.Second)
	for _, r := range []Row{a, a, b, free("f"), yesterday, before, later} {
		l.Record(r)
	}
	synced(t, l)
	got, err := l.Spent(t.Context(), yesterday.Time, later.Time)
	if err != nil || len(got) != 2 || got["tool"] != 110 || got[""] != 7 {
		t.Errorf("spent %v, %v", got, err)
	}
	// From a day on that is after to: what is not counted is not subtracted.
	if got, err = l.Spent(t.Context(), later.Time.Add(24*time.Hour), before.Time); err != nil || len(got) != 0 {
		t.Errorf("spent from tomorrow on: %v, %v", got, err)
	}
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, "shoe size"); err == nil {
		t.Error("by shoe size: no error")
	}
	closeLedger(t, l)
	l, _ = open(t, dir, Options{}) // the clock was set back meanwhile
	l.Record(later)
	synced(t, l)
	if got, err = l.Spent(t.Context(), yesterday.Time, later.Time); err != nil || got["tool"] != 10_110 {
		t.Errorf("the next process: spent %v, %v", got, err)
	}
}

// A database of an older llmsup is brought forward, one of a newer or of another
// program is left as it is, and rows wait beside it.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	old := Open(dir, Options{})
	old.Record(free("old"))
	synced(t, old)
	closeLedger(t, old)

	next := append(slices.Clone(migrations), "ALTER TABLE kind ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'", "CREATE INDEX colours ON kind (colour)")
	l, _ := open(t, dir, Options{migrations: next})
	l.Record(free("next"))
	synced(t, l)
	withDatabase(t, dir, func(db *sql.DB) error {
		var version, red int
		if err := db.QueryRow("SELECT (SELECT user_version FROM pragma_user_version), count(*) FROM kind WHERE colour = 'red'").Scan(&version, &red); err != nil || version != len(next) || red != 1 {
			t.Errorf("version %d, %d rows, %v", version, red, err)
		}
		return nil
	})
	closeLedger(t, l)

	l, output := open(t, dir, Options{})
	awaitCondition(t, l, Spilling, fmt.Sprintf("a newer llmsup wrote it (version %d, this llmsup supports %d)", len(next), len(migrations)))
	written(t, l.Record(paid("meanwhile", 1)))
	closeLedger(t, l)
	if strings.Count(output.String(), "cannot store rows") != 1 {
		t.Errorf("logged %s", output)
	}
	l, _ = open(t, dir, Options{migrations: next})
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, []string{"old", "next", "meanwhile"})

	broken := append(slices.Clone(next), "CREATE TABLE half (x); CREATE TABLE half (x)")
	l, _ = open(t, dir, Options{migrations: broken})
	awaitCondition(t, l, Spilling, fmt.Sprintf("migrate it to version %d", len(broken)))
	closeLedger(t, l)
	withDatabase(t, dir, func(db *sql.DB) error {
		var half int
		if err := db.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").Scan(&half); err != nil || half != 0 {
			t.Errorf("half a step is left: %d, %v", half, err)
		}
		return nil
	})

	strange := t.TempDir()
	withDatabase(t, strange, func(db *sql.DB) error {
		_, err := db.Exec("CREATE TABLE recipes (cake TEXT)")
		return err
	})
	l, _ = open(t, strange, Options{})
	awaitCondition(t, l, Spilling, "another program's database")
	withDatabase(t, strange, func(db *sql.DB) error {
		_, err := db.Exec("INSERT INTO recipes VALUES ('x')")
		return err
	})
}

// TestWait: how long a call waited is in its row, and NULL if it did not wait. A database of
// the version before gets the column.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	atVersion(t, dir, 4, `INSERT INTO calls (time, id, request, "key", route, model, backend, served, reason, status, stream, local, meant, paid, resumed, partial, ms)
VALUES ('2026-11-29T08:15:00.123Z', 1, 'before', '', '', '', '', '', '', 200, 0, 0, 0, 0, 0, 0, 7)`)
	l, _ := open(t, dir, Options{})
	for name, wait := range map[string]time.Duration{"long": 90 * time.Second, "short": 1500 * time.Microsecond, "none": 0, "negative": -time.Second} {
		r := free(name)
		r.Wait = wait
		l.Record(r)
	}
	synced(t, l)
	closeLedger(t, l)
	withDatabase(t, dir, func(db *sql.DB) error {
		var got string
		err := db.QueryRow("SELECT group_concat(request || coalesce(wait_ms, '-'), ' ') FROM (SELECT * FROM calls ORDER BY request)").Scan(&got)
		if want := "before- long90000 negative- none- short1"; got != want {
			t.Errorf("the calls waited %s, want %s", got, want)
		}
		return err
	})
}
