package ledger

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

// wantPrompt fails if most of ten calls wait for a journal that does not work.
func wantPrompt(t *testing.T, call func(i int)) {
	t.Helper()
	waited := 0
	for i := range 10 {
		began := time.Now()
		if call(i); time.Since(began) >= maxWait {
			waited++
		}
	}
	if waited > 5 {
		t.Errorf("%d of ten calls waited for %s", waited, maxWait)
	}
}

// A journal that cannot be written delays no call, whether it is paid for or not.
func TestJournalFails(t *testing.T) {
	l, _ := open(t, t.TempDir(), Options{retry: time.Hour, writeAt: func(*os.File, []byte, int64) (int, error) { return 0, unix.EROFS }})
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.queues[0].items, l.queues[1].items = nil, nil // else closing fails, as it should
	}()
	wantPrompt(t, func(i int) {
		attempt, row := begin(t, l, fmt.Sprint(i), 1)
		if l.Record(row, attempt).Wait() || l.Record(free("f")).Wait() {
			t.Error("a row is taken as written that is not")
		}
	})
	awaitCondition(t, l, Spilling, "read-only file system")
}

// A disk that hangs while the writer changes to another file delays calls for a second
// at most.
func TestRotationHangs(t *testing.T) {
	var hang atomic.Bool
	hung, release := make(chan struct{}), make(chan struct{})
	l, _ := open(t, t.TempDir(), Options{interval: time.Millisecond, writeAt: func(f *os.File, b []byte, at int64) (int, error) {
		if len(b) == 0 && hang.CompareAndSwap(true, false) {
			close(hung)
			<-release
		}
		return f.WriteAt(b, at)
	}})
	synced(t, l)
	hang.Store(true)
	written(t, l.Record(free("first")))
	<-hung
	wantPrompt(t, func(i int) { l.Record(free(fmt.Sprint(i))).Wait(); l.Record(paid(fmt.Sprint(i), 1)).Wait() })
	awaitCondition(t, l, Spilling, "hangs")
	close(release)
	synced(t, l)
}

// An attempt whose first line could not be written at once, and that is canceled or
// ended by a row, does not count at the next start.
func TestLinesOfAnAttemptStayInOrder(t *testing.T) {
	dir := t.TempDir()
	var full atomic.Bool
	l, _ := open(t, dir, Options{retry: 100 * time.Millisecond, writeAt: func(f *os.File, b []byte, at int64) (int, error) {
		if full.Load() {
			return 0, unix.ENOSPC
		}
		return f.WriteAt(b, at)
	}})
	written(t, l.Record(free("before")))
	full.Store(true)
	canceled, _ := begin(t, l, "canceled", 90_000)
	attempt, row := begin(t, l, "ended", 9000)
	full.Store(false)
	canceled.Cancel()
	row.Charged, row.Cost = nil, new(usd.Amount(11))
	l.Record(row, attempt)
	synced(t, l)
	closeLedger(t, l)
	l, _ = open(t, dir, Options{})
	if got := charged(t, l); got != 11 {
		t.Errorf("%d is charged, want 11", got)
	}
}

// The committer gets the journal's rows even while the writer always has lines.
func TestRotationIsNotStarved(t *testing.T) {
	dir := t.TempDir()
	var l *Ledger
	var busy atomic.Bool
	var lines atomic.Int64
	l, _ = open(t, dir, Options{interval: time.Millisecond, writeAt: func(f *os.File, b []byte, at int64) (int, error) {
		if busy.Load() && lines.Add(1) < 100_000 {
			l.Record(free("next"))
		}
		return f.WriteAt(b, at)
	}})
	synced(t, l)
	busy.Store(true)
	l.Record(free("first"))
	await(t, "a row is committed", func() bool { return countCalls(t, dir) > 0 })
	if n := lines.Load(); n >= 100_000 {
		t.Errorf("the first rows are committed after %d lines", n)
	}
	busy.Store(false)
	synced(t, l)
}

// A lock of another program in the middle of an import costs nothing of what is
// imported.
func TestImportIsInterruptedByLocks(t *testing.T) {
	dir := t.TempDir()
	var lines []byte
	for i := range 3 * journal.MaxRows {
		row := free(fmt.Sprint(i))
		lines = append(lines, lineOf(9<<32|int64(i+1), row)...)
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.journal-00000009-000001.jsonl"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLedger(dir, Options{Log: zerolog.Nop()})
	defer l.disconnect()
	c := &committer{Ledger: l, Importer: journal.NewImporter(journal.FindLeft(dir, "", zerolog.Nop()))}
	cycle := func() {
		t.Helper()
		if _, err := c.cycle(); err != nil {
			t.Fatal(err)
		}
	}
	cycle() // opens the database
	for i := range 3 {
		release := lock(t, dir)
		_, err := c.cycle()
		if !isBusy(err) {
			t.Fatalf("a locked database fails with %v", err)
		}
		c.fail(err)
		release()
		c.retryAt = time.Now()
		cycle() // tries the database again
		cycle()
		if want := (i + 1) * journal.MaxRows; c.Rows() != want {
			t.Errorf("%d rows are imported, want %d", c.Rows(), want)
		}
	}
	cycle()
	if n := countCalls(t, dir); n != 3*journal.MaxRows || c.File() != nil {
		t.Errorf("%d rows, and %+v is left", n, c.File())
	}
}

const oneKind = `INSERT INTO kind VALUES (1, 'tool', 'gpt-4o', 'gpt-4o', 'openrouter', 'openai/gpt-4o', '', 200, 1, 0, 0, 1, 0, 0)`

// An earlier llmsup was killed after a commit, before it had removed the lines of the
// rows from its files. The rows are in the table batch, and are not stored again.
func TestOldFilesOfStoredRows(t *testing.T) {
	for _, name := range []string{"ledger.spill-1.jsonl", "ledger.pending-00000007.jsonl"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			const day, at = 20_000, 1234
			atVersion(
				t, dir, 3, oneKind,
				fmt.Sprintf(`INSERT INTO batch VALUES (1, %d, 1, 7, %d, %d, '[[%d,1,"stored",1000,0,20,5000,null,300,1000]]')`, day, at, at, at),
				fmt.Sprintf(`INSERT INTO day VALUES (%d, 1, 1, 1000, 0, 20, 0, 5000, 0, 0, 1, 1, 300, 1000, 5000)`, day),
			)
			row := paid("stored", 5000)
			row.Time = time.UnixMilli(day*journal.DayLength + at)
			if strings.Contains(name, "pending") {
				row.Cost, row.Charged, row.Status, row.Partial = nil, new(usd.Amount(90_000)), 502, true
			}
			if err := os.WriteFile(filepath.Join(dir, name), lineOf(7<<32|1, row), 0o600); err != nil {
				t.Fatal(err)
			}
			l, _ := open(t, dir, Options{})
			converted(t, l)
			if got := charged(t, l); got != 5000 {
				t.Errorf("%d is charged", got)
			}
			closeLedger(t, l)
			once(t, dir, []string{"stored"})
		})
	}
}

// While old calls cannot be converted, for example on a full disk, the state says that
// some are missing.
func TestConvertingFails(t *testing.T) {
	dir := t.TempDir()
	atVersion(
		t, dir, 3, oneKind, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
INSERT INTO batch SELECT i, 20000, 1, 7, i, i, json_array(json_array(i, i, 'r' || i, 1, 0, 2, 5, NULL, 30, 40)) FROM n`,
		`INSERT INTO day VALUES (20000, 1, 30, 0, 0, 0, 0, 150, 0, 0, 0, 0, 0, 0, 150)`,
		`CREATE TRIGGER fails BEFORE DELETE ON batch WHEN old.id < 10 BEGIN SELECT RAISE(ABORT, 'as a full disk does'); END`,
	)
	l, output := open(t, dir, Options{})
	synced(t, l)
	l.Record(paid("new", 7))
	await(t, "the log says so", func() bool { return strings.Contains(output.String(), "cannot convert") })
	if s := l.State(); !s.Converting || s.Condition != OK {
		t.Errorf("state %+v", s)
	}
	if got := charged(t, l); got != 157 {
		t.Errorf("%d is charged", got)
	}
	closeLedger(t, l)
	withDatabase(t, dir, func(db *sql.DB) error { // the next start has room
		_, err := db.Exec("DROP TRIGGER fails")
		return err
	})
	l, _ = open(t, dir, Options{})
	converted(t, l)
	closeLedger(t, l)
	if n := len(requests(t, dir)); n != 31 {
		t.Errorf("%d rows", n)
	}
}
