package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/usd"
)

// What a batch's text says of a call is what the row was.
func TestBatches(t *testing.T) {
	odd := free("\"\\\x01\u2028é</script>")
	odd.Time = odd.Time.Add(-48 * time.Hour)
	odd.Charged = new(usd.Amount(9))
	bare := Row{Time: time.Now(), Request: "bare", Status: 503}
	entries := []*entry{entryOf(7<<runBits|1, paid("a", 5)), entryOf(7<<runBits|2, paid("b", 6)), entryOf(7<<runBits|3, odd), entryOf(7<<runBits|4, bare), entryOf(8<<runBits|5, paid("c", 7))}
	batches := batchesOf(entries, []int64{1, 1, 2, 3, 1}, []byte("old"))
	if len(batches) != 4 {
		t.Fatalf("%d batches: %+v", len(batches), batches)
	}
	byID := map[int64]*entry{}
	for _, e := range entries {
		byID[e.id] = e
	}
	for _, b := range batches {
		if err := readCalls(string(b.calls), func(c *[callColumns]gjson.Result) {
			e := byID[b.run<<runBits|c[1].Int()]
			if e == nil {
				t.Fatalf("%s has a call that never was", b.calls)
			}
			if at := b.day*dayLength + c[0].Int(); at != e.time || c[2].String() != e.request || c[0].Int() < b.since || c[0].Int() > b.until {
				t.Errorf("%s in %+v is not %+v", b.calls, b.batchKey, e)
			}
			for i, want := range []figure{e.prompt, e.cached, e.completion, e.cost, e.saved} {
				if got := c[3+i]; got.Type == gjson.Null != (want == unknown) || want != unknown && got.Int() != int64(want) {
					t.Errorf("figure %d of %s is %s", i, e.request, got.Raw)
				}
			}
			if charged := c[10]; charged.Type == gjson.Null != (e.charged == unknown) || e.charged != unknown && charged.Int() != int64(e.charged) {
				t.Errorf("%s is charged %s", e.request, charged.Raw)
			}
			if c[8].Int() != e.first || c[8].Type == gjson.Null != (e.first == 0) || c[9].Int() != e.took {
				t.Errorf("times of %s are %s and %s", e.request, c[8].Raw, c[9].Raw)
			}
			delete(byID, e.id)
		}); err != nil {
			t.Error(err)
		}
	}
	if len(byID) > 0 {
		t.Errorf("%d rows are in no batch", len(byID))
	}
	for _, text := range []string{"", "[", "[[1]]", "[1]", `{"a":1}`, "{}", `{"a":[1,2,"r",4,5,6,7,8,9,10]}`, `[["1",2,"r",4,5,6,7,8,9,10]]`, `[[1,2,"r",true,5,6,7,8,9,10]]`, "[[1,2,3,4,5,6,7,8,9,10,11,12]]", `[[1,2,3,4,5,6,7,8,9,10,"11"]]`, `[{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10}]`} {
		if err := readCalls(text, func(*[callColumns]gjson.Result) { t.Errorf("%s has a call", text) }); !errors.Is(err, errDamaged) {
			t.Errorf("%q is read: %v", text, err)
		}
	}
}

// The first version's rows are in batches afterwards, every one as it was.
func TestFromTheFirstVersion(t *testing.T) {
	dir := t.TempDir()
	first, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName), "journal_mode(WAL)"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	conn, err := first.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(migrate(t.Context(), conn, migrations[:1]), conn.Close()); err != nil {
		t.Fatal(err)
	}
	const n = 5000
	now := time.Now().UnixMilli()
	for _, text := range []string{
		`INSERT INTO kind VALUES (1, 'tool', 'gpt-4o', 'gpt-4o', 'cloud', 'openai/gpt-4o', '', 200, 0, 0, 0, 1, 0, 0), (2, '', 'local/*', 'local/q', 'q', 'q', '', 200, 1, 1, 1, 0, 0, 0)`,
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
INSERT INTO call SELECT %d - i * 70000, (9 << 32) + i, i %% 2 + 1, 'r' || i, i, NULL, 20, i * 1000000007, 5, CASE i %% 3 WHEN 0 THEN NULL ELSE 30 END, i FROM n`, n, now),
		`INSERT INTO day SELECT time / 86400000, kind, count(*), sum(prompt), 0, sum(completion), 0, sum(cost), 0, sum(saved), 0, count(first_ms), sum(first_ms), sum(ms) FROM call GROUP BY 1, 2`,
	} {
		if _, err := first.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	var before, after string
	const all = `SELECT group_concat(time || id || kind || request || prompt || coalesce(cached, '-') || completion || cost || saved || coalesce(first_ms, '-') || ms) FROM (SELECT * FROM call ORDER BY time, id)`
	if err := first.QueryRow(all).Scan(&before); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, dir, Options{})
	synced(t, l)
	with(t, dir, func(db *sql.DB) error { return db.QueryRow(all).Scan(&after) })
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
}

// A batch whose text is none costs nothing else: it is told, once, and sums of whole
// days, which budgets live by, have its calls all the same.
func TestDamagedBatch(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	l.Record(paid("old", 7))
	l.Record(free("damaged"))
	synced(t, l)
	run := l.run
	closeLedger(t, l)
	with(t, dir, func(db *sql.DB) error {
		_, err := db.Exec("UPDATE batch SET calls = 'x' WHERE calls LIKE '%damaged%'")
		return err
	})
	s := &spill{dir: dir, sync: (*os.File).Sync}
	if err := s.write([]*entry{entryOf(run|999, free("spilled"))}); err != nil {
		t.Fatal(err)
	}
	s.close()
	l, said := open(t, dir, Options{})
	synced(t, l)
	for range 2 {
		// Not a whole day: it is read from the rows, but for what was before midnight.
		u := usage(t, l, time.Now().Add(-5*time.Minute), time.Now().Add(time.Second), ByModel)
		if u.Total.Calls < 2 || u.Total.Calls > 3 || u.Total.Cost != 7 {
			t.Errorf("the sums of some minutes are %+v", u.Total)
		}
	}
	if spent, err := l.Spent(t.Context(), time.Time{}, time.Time{}); err != nil || spent["tool"] != 7 {
		t.Errorf("%v is spent, %v", spent, err)
	}
	if l.State().Aside != "" || strings.Count(said.String(), "can't be read") != 1 {
		t.Errorf("logged %s", said)
	}
	closeLedger(t, l)
	with(t, dir, func(db *sql.DB) error {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM calls").Scan(&n); err != nil || n != 2 {
			t.Errorf("%d rows can be read, %v", n, err)
		}
		return nil
	})
}

// What is read back finds what is there already among as many batches as there are.
func TestMissingIsBounded(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	synced(t, l)
	plan := planOf(t, dir, inTime)
	if !strings.Contains(plan, "SEARCH batch USING INDEX batch_until (day=? AND until>? AND until<?)") {
		t.Errorf("it is read by\n%s", plan)
	}
	day := time.Now().UnixMilli() / dayLength * dayLength
	var entries []*entry
	var kinds []int64
	for i := range int64(500) {
		e := entryOf(i+1, free("r"))
		e.time = day + i*dayLength/500
		entries, kinds = append(entries, e), append(kinds, 1)
	}
	for _, b := range batchesOf(entries, kinds, nil) {
		if b.until-b.since >= sliceLength || b.until/sliceLength != b.slice || b.since/sliceLength != b.slice {
			t.Errorf("a batch is from %d to %d", b.since, b.until)
		}
	}
}
