package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/usd"
)

// waitLimit is how long a test waits for an event, even on a busy machine.
const waitLimit = 3 * time.Minute

// childVariable makes this test binary a program that records rows in the folder
// that it is started in, until it is killed.
const childVariable = "LLMSUP_TEST_LEDGER"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		recordUntilKilled()
	}
	goleak.VerifyTestMain(m)
}

// paid and free are rows of calls that were paid for, and that were not.
func paid(request string, cost usd.Amount) Row {
	return Row{
		Time: time.Now(), Request: request,
		Dimensions: Dimensions{Key: "tool", Route: "gpt-4o", Model: "gpt-4o", Backend: "openrouter", Served: "openai/gpt-4o", Status: 200, Stream: true, Paid: true},
		Prompt:     new(int64(1000)), Cached: new(int64(0)), Completion: new(int64(20)), Cost: &cost,
		FirstAnswer: 300 * time.Millisecond, Duration: time.Second,
	}
}

func free(request string) Row {
	return Row{
		Time: time.Now(), Request: request,
		Dimensions: Dimensions{Route: "local/qwen", Model: "local/qwen", Backend: "qwen", Served: "qwen", Status: 200, Local: true},
		Prompt:     new(int64(10)), Completion: new(int64(5)), Cost: new(usd.Amount(0)), Saved: new(usd.Amount(1_234_567)),
		FirstAnswer: 20 * time.Millisecond, Duration: 40 * time.Millisecond,
	}
}

// full is an entry with nearly all that an entry can have.
func full(id int64, request string) *journal.Entry {
	r := paid(request, usd.Max)
	r.Saved, r.Charged, r.Reason, r.Resumed, r.Partial = new(usd.Amount(1)), new(usd.Amount(2)), "timeout", true, true
	e := journal.NewEntry(id, &r)
	e.Ends = []int64{5, 6}
	return e
}

// lineOf is a row's line in the journal.
func lineOf(id int64, row Row) []byte {
	return journal.NewEntry(id, &row).Line(journal.RowLine).AppendTo(nil)
}

// log is the output of a ledger's logger.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open opens a ledger that retries faster, and closes it at the end of the test.
func open(t *testing.T, dir string, opts Options) (*Ledger, *log) {
	t.Helper()
	output := &log{}
	opts.Log = zerolog.New(output)
	setDefault(&opts.retry, 30*time.Millisecond)
	l := Open(dir, opts)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the ledger logged:\n%s", output)
		}
		closeLedger(t, l)
	})
	return l, output
}

// await polls a condition, and fails the test if it does not become true in time.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", waitLimit, what)
		}
	}
}

func closeLedger(t *testing.T, l *Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

// synced waits until all recorded rows are in the database.
func synced(t *testing.T, l *Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := l.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if s := l.State(); s.Condition != OK || s.Reason != "" || s.Waiting != 0 {
		t.Fatalf("when all is written the state is %+v", s)
	}
}

// awaitCondition waits until the ledger is in a condition, for a reason.
func awaitCondition(t *testing.T, l *Ledger, want Condition, reason string) (s State) {
	t.Helper()
	await(t, fmt.Sprintf("the condition is %s with %q", want, reason), func() bool {
		s = l.State()
		return s.Condition == want && strings.Contains(s.Reason, reason)
	})
	return s
}

// written waits until a row is in the journal.
func written(t *testing.T, r *Receipt) {
	t.Helper()
	select {
	case <-r.written:
	case <-time.After(waitLimit):
		t.Fatal("a row is not in the journal")
	}
}

func usage(t *testing.T, l *Ledger, from, to time.Time, by By) Usage {
	t.Helper()
	all, err := l.Usages(t.Context(), from, to, by)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// withDatabase runs a function on its own connection to a database, as another program would.
func withDatabase(t *testing.T, dir string, run func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(dir, databaseName), "busy_timeout(5000)"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := run(db); err != nil {
		t.Fatal(err)
	}
}

// requests counts the rows of each request, and compares the sums of days with the rows:
// these tests delete nothing.
func requests(t *testing.T, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	withDatabase(t, dir, func(db *sql.DB) error {
		rows, err := db.Query("SELECT request FROM calls")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var request string
			if err := rows.Scan(&request); err != nil {
				return err
			}
			found[request]++
		}
		if err := rows.Err(); err != nil {
			return err
		}
		var calls, ofDays, cost, costOfDays int64
		if err := db.QueryRow("SELECT count(*), coalesce(sum(cost), 0), (SELECT coalesce(sum(calls), 0) FROM day), (SELECT coalesce(sum(cost), 0) FROM day) FROM calls").Scan(&calls, &cost, &ofDays, &costOfDays); err != nil {
			return err
		}
		if calls != ofDays || cost != costOfDays {
			return fmt.Errorf("%d rows that cost %d, and days with %d that cost %d", calls, cost, ofDays, costOfDays)
		}
		var sound string
		if err := db.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
			return errors.Join(err, errors.New(sound))
		}
		return nil
	})
	return found
}

// once fails unless exactly these requests have a row, and each has one.
func once(t *testing.T, dir string, want []string) {
	t.Helper()
	found := requests(t, dir)
	for _, request := range want {
		if found[request] != 1 {
			t.Errorf("%s has %d rows", request, found[request])
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d requests have rows, want %d", len(found), len(want))
	}
}

// journals are the journal files that have lines.
func journals(t *testing.T, dir string) []string {
	t.Helper()
	found, err := fs.Glob(os.DirFS(dir), "ledger.*.jsonl*")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range found {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); err == nil && len(raw) > 0 {
			files = append(files, name)
		}
	}
	return files
}

// notRun skips a test that this user or this machine cannot run, and has
// scripts/test.sh name it in its last lines.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), strings.ReplaceAll(why, "\n", "; "))
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}
