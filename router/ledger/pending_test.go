package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

func begin(t *testing.T, l *Ledger, request string, charged usd.Amount) (*Pending, Row) {
	t.Helper()
	row := paid(request, 0)
	row.Cost, row.Charged, row.Partial = nil, &charged, true
	return l.Begin(row), row
}

func charged(t *testing.T, l *Ledger) usd.Amount {
	t.Helper()
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	spent, err := l.Spent(t.Context(), time.UnixMilli(0), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return spent["tool"]
}

// kill copies a ledger's folder as it is, which is what a kill -9 leaves.
func kill(t *testing.T, dir string) (left string) {
	t.Helper()
	left = t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

// Of the attempts that were under way when llmsup was killed, what was reserved
// counts after the next start, once, and nothing of the others does.
func TestPending(t *testing.T) {
	for name, rotate := range map[string]bool{"in one file": false, "over several files": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, _ := open(t, dir, Options{interval: time.Hour})
			synced(t, l)
			next := func() {
				if rotate {
					l.Record(free("between")).Wait()
					synced(t, l)
				}
			}
			begin(t, l, "under way", 5)
			canceled, _ := begin(t, l, "canceled", 70)
			first, ended := begin(t, l, "ended", 900)
			second, _ := begin(t, l, "ended", 8000)
			next()
			canceled.Cancel()
			ended.Charged, ended.Cost = nil, new(usd.Amount(11))
			l.Record(ended, first, second).Wait()
			left := kill(t, dir)
			next()
			if got := charged(t, l); got != 11 {
				t.Errorf("%d is charged before the kill, want 11", got)
			}
			for _, dir := range []string{left, kill(t, dir)} {
				for range 3 { // and again after the import
					l, _ := open(t, dir, Options{})
					if got := charged(t, l); got != 16 {
						t.Errorf("%d is charged after the kill, want 16", got)
					}
					closeLedger(t, l)
				}
				if files := journals(t, dir); len(files) > 0 {
					t.Errorf("left: %q", files)
				}
			}
		})
	}
}

// An attempt that is under way when the ledger is closed counts at the next start.
func TestPendingAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	begin(t, l, "under way", 5)
	attempt, row := begin(t, l, "ended", 900)
	row.Charged, row.Cost = nil, new(usd.Amount(11))
	l.Record(row, attempt)
	closeLedger(t, l)
	l, _ = open(t, dir, Options{})
	if got := charged(t, l); got != 16 {
		t.Errorf("%d is charged, want 16", got)
	}
}

// What earlier versions have left: rows beside the database, and attempts under way
// in a file of their own.
func TestFilesOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	attempt := func(id int64, request string, charged usd.Amount) string {
		row := paid(request, 0)
		row.Cost, row.Charged, row.Time = nil, &charged, time.UnixMilli(1790000000000)
		return string(lineOf(id, row))
	}
	row := paid("ended", 11)
	row.Time = time.UnixMilli(1790000000000)
	for name, text := range map[string]string{
		"ledger.spill-1.jsonl": string(lineOf(3, row)), "ledger.spill-reserve.jsonl": strings.Repeat("\x00", 1<<20),
		// A power failure may leave zeros behind what was written.
		"ledger.pending-7.jsonl": attempt(1, "under way", 5) + attempt(2, "canceled", 70) + attempt(3, "ended", 900) + fmt.Sprintf(`{"ended":%d}`+"\n", 2) + "{\"sum\":\"cut" + strings.Repeat("\x00", 32<<10),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := open(t, dir, Options{})
	if got := charged(t, l); got != 16 {
		t.Errorf("%d is charged, want 16", got)
	}
	closeLedger(t, l)
	if files := journals(t, dir); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}
