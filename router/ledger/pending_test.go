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
	p := l.Begin(row)
	row.Pending = []*Pending{p}
	return p, row
}

func charged(t *testing.T, l *Ledger) usd.Amount {
	t.Helper()
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	spent, err := l.Spent(t.Context(), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return spent["tool"]
}

// TestPending: of the calls that were under way when llmsup was killed, what was
// reserved counts after the next start, once, and nothing of the others does.
func TestPending(t *testing.T) {
	dir := t.TempDir()
	killed, _ := open(t, dir, Options{})
	begin(t, killed, "under way", 5)
	canceled, _ := begin(t, killed, "canceled", 70)
	canceled.Cancel()
	_, ended := begin(t, killed, "ended", 900)
	ended.Charged = nil
	ended.Cost = new(usd.Amount(11))
	killed.Pay(ended).Wait()
	if got := charged(t, killed); got != 11 {
		t.Errorf("%d is charged before the kill, want 11", got)
	}
	// As if llmsup had been killed between the row and the line that ends the call.
	file := killed.pending.path
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// A power failure may leave zeros behind.
	lines = append(lines[:len(lines)-len(fmt.Sprintf(`{"ended":%d}`+"\n", ended.Pending[0].id))], "{\"sum\":\"cut"+strings.Repeat("\x00", 2*maxLine)...)
	for range 2 { // and again in the middle of taking over
		if err := os.WriteFile(file, lines, 0o600); err != nil {
			t.Fatal(err)
		}
		next, _ := open(t, dir, Options{})
		if got := charged(t, next); got != 16 {
			t.Errorf("%d is charged after the kill, want 16", got)
		}
		if _, err := os.Stat(file); err == nil {
			t.Error("the file is still there")
		}
	}
}

// TestPendingFileStaysSmall: it is written anew with the calls that are under way.
func TestPendingFileStaysSmall(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	begin(t, l, "under way", 5)
	for i := range 2 * maxPendingSize / 300 {
		p, _ := begin(t, l, fmt.Sprint(i), 1)
		p.Cancel()
	}
	if info, err := os.Stat(l.pending.path); err != nil || info.Size() > maxPendingSize+4096 {
		t.Errorf("%v, %v", info, err)
	}
	next, _ := open(t, dir, Options{})
	if got := charged(t, next); got != 5 {
		t.Errorf("%d is charged, want 5", got)
	}
}

// TestPendingFileIsRemoved: a ledger that is closed leaves none without calls, and
// one that was removed is made again.
func TestPendingFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	begin(t, l, "under way", 5)
	if err := os.Remove(l.pending.path); err != nil {
		t.Fatal(err)
	}
	p, row := begin(t, l, "second", 6)
	next, _ := open(t, t.TempDir(), Options{})
	if err := os.Rename(l.pending.path, filepath.Join(next.dir, "ledger.pending-1.jsonl")); err != nil {
		t.Fatal(err)
	}
	next.takeOverPending()
	next.mu.Lock()
	next.behind = true // as a ledger that begins
	next.mu.Unlock()
	if got := charged(t, next); got != 11 {
		t.Errorf("%d is charged, want 11", got)
	}
	p.Cancel()
	l.Pay(row).Wait()
	l.pending.close()
	if found, _ := filepath.Glob(filepath.Join(dir, pendingPattern)); len(found) > 0 {
		t.Errorf("left: %q", found)
	}
}
