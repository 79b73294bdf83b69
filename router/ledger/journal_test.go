package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a crash or a disk leaves of a file: whole lines are imported, damaged ones are
// reported and kept, and a last line that was cut belongs to no call that had ended.
func TestDamagedJournal(t *testing.T) {
	one, two := string(full(1, "one").line(rowLine)), string(full(2, "two").line(rowLine))
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
		"zeros":           {one + "\x00\x00\x00" + two, 2, false},
		"a very long one": {strings.Repeat("x", 9*maxLine) + "\n" + one, 1, true},
		"no checksum":     {`{"row":{"id":1}}` + "\n" + one, 1, true},
		"twice":           {one + one + two, 2, false},
	} {
		for _, file := range []string{"ledger.journal-00000001-000001.jsonl", "ledger.spill-1.jsonl", "ledger.spill-reserve.jsonl"} {
			t.Run(name+" "+file, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, file)
				if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
				l, output := open(t, dir, Options{})
				synced(t, l)
				closeLedger(t, l)
				if found := requests(t, dir); len(found) != c.want {
					t.Errorf("%d rows: %v", len(found), found)
				}
				_, err := os.Stat(path + ".damaged")
				if kept := err == nil; kept != c.damaged || strings.Contains(output.String(), "damaged") != c.damaged {
					t.Errorf("kept: %t, logged %s", kept, output)
				}
				if _, err := os.Stat(path); err == nil {
					t.Error("the file is still there")
				}
			})
		}
	}
}

// A file that can't be imported does not keep the ledger from working, and its rows
// are not counted again.
func TestJournalThatStays(t *testing.T) {
	old := full(1, "one")
	old.Came -= 5 * dayLength
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ledger.journal-00000000-000001.jsonl"), 0o700); err != nil { // can't be read at all
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.journal-00000001-000001.jsonl"), old.line(rowLine), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, output := open(t, dir, Options{Retention: time.Nanosecond}) // what is there is old, and is kept for the sake of those that may come again
		synced(t, l)
		if !strings.Contains(output.String(), "could not import") {
			t.Errorf("logged %s", output)
		}
		closeLedger(t, l)
		once(t, dir, []string{"one"})
	}
}

// The next file begins with the attempts that have begun and not ended, and a file
// that was removed is replaced.
func TestRotate(t *testing.T) {
	l := newLedger(t.TempDir(), Options{})
	add := func(kind lineKind, id int64) string {
		e := full(id, fmt.Sprint(id))
		e.Ends = nil
		text := e.line(kind)
		if kind == endLine {
			text = newEndLine(id)
		}
		l.writeQueue(l.queues[0], []*queuedLine{{kind: kind, id: id, text: text, entry: e, written: make(chan struct{})}})
		return string(text)
	}
	content := func() string {
		raw, err := os.ReadFile(l.journal.file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	rotate := func() {
		t.Helper()
		next, err := l.journal.newFile()
		if err != nil {
			t.Fatal(err)
		}
		file, err := l.journal.rotate(next)
		if err != nil || file == nil || len(file.entries) != 1 {
			t.Fatalf("%+v, %v", file, err)
		}
		_ = file.file.Close()
	}
	begun := add(beginLine, 1)
	add(beginLine, 2)
	add(beginLine, 3)
	add(rowLine, 2)
	add(endLine, 3)
	rotate()
	if text := content(); text != begun {
		t.Errorf("the next file begins with %q", text)
	}
	next, err := l.journal.newFile()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := l.journal.rotate(next); again != nil || err != nil {
		t.Errorf("a file without rows is given to the committer: %v, %v", again, err)
	}
	add(rowLine, 4)
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	later := add(rowLine, 5)
	if text := content(); text != begun+later {
		t.Errorf("the new file has %q", text)
	}
	if l.rows != 2 {
		t.Errorf("there are %d rows for the committer", l.rows)
	}
	rotate() // what was removed
	rotate()
	add(rowLine, 6)
	files := l.journal.close()
	if len(files) != 1 || len(files[0].entries) != 1 {
		t.Fatalf("the last files are %+v", files)
	}
	_ = files[0].file.Close()
	if left := journals(t, l.dir); len(left) != 3 { // the two that the committer removes, and the attempt that has begun
		t.Errorf("left are %q", left)
	}
}
