package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// A commit that was reported to have failed may be in the database all the same: the
// same rows are stored once.
func TestCommitInDoubt(t *testing.T) {
	dir := t.TempDir()
	d, err := openDatabase(filepath.Join(dir, databaseName), migrations, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var entries []*journal.Entry
	var lines []byte
	var want []string
	for i := range 300 {
		e := full(int64(i), fmt.Sprint(i))
		entries, lines, want = append(entries, e), append(lines, e.Line(journal.RowLine).AppendTo(nil)...), append(want, fmt.Sprint(i))
	}
	if err := d.store(entries[:200]); err != nil {
		t.Fatal(err)
	}
	d.close()
	if err := os.WriteFile(filepath.Join(dir, "ledger.journal-00000001-000001.jsonl"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	l, _ := open(t, dir, Options{})
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
}

// A reader that finds a database corrupt when there is a new one does not have the new
// one moved aside.
func TestLateReport(t *testing.T) {
	l := newLedger(t.TempDir(), Options{})
	old, current := &database{}, &database{}
	l.database.Store(current)
	l.reportCorrupt(old, errFileOverwritten)
	l.reportCorrupt(current, errors.New("busy elsewhere"))
	if l.corruptErr != nil {
		t.Errorf("a sound database is moved aside: %v", l.corruptErr)
	}
	if l.reportCorrupt(current, errFileOverwritten); l.corruptErr == nil {
		t.Error("a corrupt database is kept")
	}
}

// A database that did not work counts as working when it has taken the rows that
// waited: being able to write a little proves nothing on a full disk.
func TestWorksAgain(t *testing.T) {
	dir, output := t.TempDir(), &log{}
	l := newLedger(dir, Options{Log: zerolog.New(output)})
	defer l.disconnect()
	c := &committer{Ledger: l, Importer: journal.NewImporter(nil)}
	c.fail(errors.New("on strike"))
	if s := l.State(); s.Condition != Spilling || !strings.Contains(s.Reason, "on strike") || strings.Count(output.String(), "on strike") != 1 {
		t.Errorf("state %+v, logged %s", s, output)
	}
	path := filepath.Join(dir, "ledger.journal-00000001-000001.jsonl")
	if err := os.WriteFile(path, full(1, "one").Line(journal.RowLine).AppendTo(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Add(journal.FindLeft(dir, "", zerolog.Nop())...)
	if err := c.connect(); err != nil {
		t.Fatal(err)
	}
	if s := l.State(); s.Condition != Spilling || strings.Contains(output.String(), "works again") {
		t.Errorf("it has taken nothing, and the state is %+v", s)
	}
	for range 2 {
		if _, err := c.cycle(); err != nil {
			t.Fatal(err)
		}
	}
	if s := l.State(); s != (State{}) || strings.Count(output.String(), "works again") != 1 {
		t.Errorf("state %+v, logged %s", s, output)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the journal is still there")
	}
}

// As many rows as are committed at once don't wait for the interval.
func TestManyRowsAreCommittedAtOnce(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{interval: time.Hour})
	synced(t, l)
	for i := range journal.MaxRows {
		l.Record(free(fmt.Sprint(i)))
	}
	await(t, "all rows are committed", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.queues[0].len()+l.queues[1].len()+l.rows == 0 && l.oldestImport.IsZero()
	})
	if n := len(requests(t, dir)); n != journal.MaxRows {
		t.Errorf("%d rows", n)
	}
}

func TestConditions(t *testing.T) {
	minute := time.Now().Add(-time.Minute)
	for name, c := range map[string]struct {
		set  func(*Ledger)
		want Condition
		says string
	}{
		"new":          {func(*Ledger) {}, OK, ""},
		"slow to open": {func(l *Ledger) { l.oldestImport = minute }, Behind, "are being imported"},
		"a slow write": {func(l *Ledger) { l.databaseErr, l.oldestImport, l.oldest = nil, time.Time{}, minute }, Behind, "a write takes long"},
		"a busy one": {func(l *Ledger) {
			l.databaseErr, l.oldestImport, l.queues[1].items = nil, time.Time{}, []*Receipt{{queuedAt: time.Now()}}
		}, OK, ""},
		"down":           {func(l *Ledger) { l.databaseErr = errFileReplaced }, Spilling, "was removed"},
		"all is down":    {func(l *Ledger) { l.databaseErr, l.queues[0].err = errFileReplaced, errors.New("no room") }, Spilling, "; the journal in "},
		"no journal":     {func(l *Ledger) { l.queues[1].err = errors.New("no room") }, Spilling, "cannot be written: no room"},
		"a hung journal": {func(l *Ledger) { l.writeHung = true }, Spilling, "hangs: check its disk"},
		"all hangs":      {func(l *Ledger) { l.databaseErr, l.writeHung = errFileReplaced, true }, Spilling, "hangs: check its disk"},
	} {
		l := newLedger(t.TempDir(), Options{})
		c.set(l)
		if s := l.State(); s.Condition != c.want || !strings.Contains(s.Reason, c.says) || (s.Reason == "") != (c.want == OK) {
			t.Errorf("%s: state %+v", name, s)
		}
	}
	if words := fmt.Sprint(OK, Behind, Spilling); words != "ok behind spilling" {
		t.Errorf("the conditions are called %s", words)
	}
}

// That rows wait in memory is logged although the database was lost before, and before a
// call goes on without its row: until then, a call that has ended is on the disk.
func TestRowsInMemoryAreLogged(t *testing.T) {
	output := new(bytes.Buffer)
	l := newLedger(t.TempDir(), Options{Log: zerolog.New(output)})
	l.databaseErr = errFileReplaced
	l.publish()
	receipt := l.enqueue(journal.Line{Kind: journal.RowLine}, true)
	l.setWriteHung()
	if receipt.Wait() || !strings.Contains(output.String(), "hangs: check its disk") {
		t.Errorf("logged %s", output)
	}
	before := output.String()
	l.publish()
	if output.String() != before {
		t.Errorf("logged again: %s", output)
	}
}
