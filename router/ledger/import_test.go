package ledger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/ledger/journal"
)

// What a crash or a disk leaves of a file: whole lines are imported, damaged ones are
// reported and kept, and a last line that was cut belongs to no call that had ended.
func TestDamagedJournal(t *testing.T) {
	one, two := string(full(1, "one").Line(journal.RowLine).AppendTo(nil)), string(full(2, "two").Line(journal.RowLine).AppendTo(nil))
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
		"a very long one": {strings.Repeat("x", 150_000) + "\n" + one, 1, true},
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

// A file that cannot be imported does not keep the ledger from working, and its rows
// are not counted again.
func TestJournalThatStays(t *testing.T) {
	old := full(1, "one")
	old.Unix -= 5 * journal.DayLength
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ledger.journal-00000000-000001.jsonl"), 0o700); err != nil { // cannot be read at all
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.journal-00000001-000001.jsonl"), old.Line(journal.RowLine).AppendTo(nil), 0o600); err != nil {
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
