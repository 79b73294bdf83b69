package ledger

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

func whole(id int64, request string) *entry {
	r := paid(request, usd.Most)
	r.Saved, r.Reason, r.Resumed, r.Partial = new(usd.Amount(1)), "timeout", true, true
	return entryOf(id, r)
}

// entryOf is a row as it waits.
func entryOf(id int64, r Row) *entry {
	e := newEntry(&r)
	e.id, e.kind = id, new(kinds).of(&r)
	return e
}

func TestLineIsReadBack(t *testing.T) {
	for name, e := range map[string]*entry{"all": whole(1<<62, "r"), "nothing": entryOf(0, Row{Time: time.UnixMilli(0)}), "free": entryOf(3, free(`"\{}`+"\n\u2028"))} {
		got, ok := parseLine(e.line()[:len(e.line())-1])
		if !ok {
			t.Fatalf("%s: %s is not read", name, e.line())
		}
		a, b := string(got.line()), string(e.line())
		if a != b || *got.kind != *e.kind || got.time != e.time || got.first != e.first || strings.Count(b, "\n") != 1 {
			t.Errorf("%s: %s is read as %s", name, b, a)
		}
	}
	r := Row{Request: strings.Repeat("\x01", 300)}
	r.Key, r.Route, r.Model, r.Backend, r.Served, r.Reason = r.Request, r.Request, r.Request, r.Request, r.Request, r.Request
	if n := len(entryOf(0, r).line()); n > maxLine {
		t.Errorf("a line may have %d bytes", n)
	}
}

// What a crash or a disk leaves of a file: whole lines are taken, the others are
// told, and a last line that was cut is nobody's.
func TestDamagedSpill(t *testing.T) {
	one, two := string(whole(1, "one").line()), string(whole(2, "two").line())
	for name, c := range map[string]struct {
		text    string
		want    int
		damaged bool
	}{
		"whole":           {one + two, 2, false},
		"empty":           {"", 0, false},
		"cut":             {one + two[:len(two)-9], 1, false},
		"not ended":       {one + two[:len(two)-1], 1, false},
		"a flipped bit":   {one + strings.Replace(two, "two", "twp", 1), 1, true},
		"in the middle":   {one[:40] + "\n" + two, 1, true},
		"zeros":           {one + "\x00\x00\x00" + two, 1, false},
		"a very long one": {strings.Repeat("x", 3*maxLine) + "\n" + one, 1, true},
		"no checksum":     {`{"row":{"id":1}}` + "\n" + one, 1, true},
		"twice":           {one + one + two, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "ledger.spill-1.jsonl")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			l, said := open(t, dir, Options{})
			synced(t, l)
			closeLedger(t, l)
			if found := requests(t, dir); len(found) != c.want {
				t.Errorf("%d rows: %v", len(found), found)
			}
			_, err := os.Stat(file + ".damaged")
			if kept := err == nil; kept != c.damaged || strings.Contains(said.String(), "damaged") != c.damaged {
				t.Errorf("kept: %t, logged %s", kept, said)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("the file is still there")
			}
		})
	}
}

// A file that can't be removed is not taken for work that never ends, and its rows
// are not counted again.
func TestSpillThatStays(t *testing.T) {
	old := whole(1, "one")
	old.time -= 5 * dayLength
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ledger.spill-0.jsonl"), 0o700); err != nil { // can't be read at all
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.spill-1.jsonl"), old.line(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, said := open(t, dir, Options{Keep: time.Nanosecond}) // what is there is old, and is kept for the sake of those that may come again
		synced(t, l)
		if !strings.Contains(said.String(), "could not be taken over") {
			t.Errorf("logged %s", said)
		}
		closeLedger(t, l)
		once(t, dir, []string{"one"})
	}
}

// What is saved into the reserve while it is read back stays in it.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	s := &spill{dir: dir, sync: func(*os.File) error { return nil }}
	if s.save([]*entry{whole(1, "x")}) != 0 {
		t.Error("saved without room")
	}
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for s.save([]*entry{whole(int64(n), fmt.Sprint(n))}) == 1 {
		n++
	}
	if n < 1500 {
		t.Errorf("room for %d rows", n)
	}
	read := func() (entries []*entry, at int64) {
		t.Helper()
		r, err := openSpill(filepath.Join(dir, reserveName))
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		entries, err = r.next(1 << 20)
		if err != nil || r.damaged > 0 {
			t.Fatal(err, r.damaged)
		}
		return entries, r.read
	}
	entries, at := read()
	if len(entries) != n {
		t.Fatalf("%d rows are read, want %d", len(entries), n)
	}
	if err := s.clear(at - 1); err != nil || s.used != at {
		t.Errorf("cleared before all was read: %v", err)
	}
	if err := s.clear(at); err != nil || s.used != 0 {
		t.Errorf("not cleared: %v", err)
	}
	if left, _ := read(); len(left) != 0 {
		t.Errorf("%d rows are left", len(left))
	}
	if s.save([]*entry{whole(1, "again")}) != 1 {
		t.Error("an empty reserve takes nothing")
	}
	s.close()
	s = &spill{dir: dir, sync: (*os.File).Sync}
	if err := s.prepare(); err != nil || s.save([]*entry{whole(2, "over it")}) != 0 {
		t.Errorf("what an earlier llmsup left is written over: %v", err)
	}
	if left, _ := read(); len(left) != 1 {
		t.Errorf("%d rows are left of the earlier llmsup's", len(left))
	}
	s.close()
}

// A database that is slow, and not down: rows that have waited for long are in the
// spill, and nothing is counted twice when they are in the database, too.
func TestSlowDatabase(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{patience: time.Nanosecond, interval: time.Millisecond})
	var workers sync.WaitGroup
	var want []string
	var mu sync.Mutex
	for w := range 8 {
		workers.Go(func() {
			for i := range 100 {
				name := fmt.Sprintf("%d-%d", w, i)
				mu.Lock()
				want = append(want, name)
				mu.Unlock()
				<-l.Pay(paid(name, 1)).Durable()
			}
		})
	}
	workers.Wait()
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
}

// FuzzLine: whatever stands in a spill, what is taken over is a row that can be
// written, and is written as it was read.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"id":1,"time":2,"ms":3,"request":"r","cost":1.5e-7,"prompt":4}`))
	f.Add(whole(7, "x").line()[24:])
	f.Fuzz(func(t *testing.T, row []byte) {
		if !json.Valid(row) {
			return
		}
		e, ok := parseLine(fmt.Appendf(nil, `{"sum":"%s","row":%s}`, checksum(row), row))
		if !ok {
			return
		}
		again, ok := parseLine(e.line())
		if !ok || again.id != e.id || *again.kind != *e.kind || string(again.line()) != string(e.line()) || len(e.line()) > maxLine {
			t.Fatalf("%s is written %s", row, e.line())
		}
	})
}
