package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A commit that was reported to have failed may be in the database all the same.
func TestCommitInDoubt(t *testing.T) {
	dir := t.TempDir()
	l, said := open(t, dir, Options{})
	synced(t, l)
	var entries []*entry
	var want []string
	for i := range 300 {
		e := whole(int64(i), fmt.Sprint(i))
		e.tried, e.born = true, time.Now()
		entries, want = append(entries, e), append(want, fmt.Sprint(i))
	}
	other, err := openDatabase(l.path(), migrations, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.store(entries[:200], false); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, entries...)
	l.mu.Unlock()
	synced(t, l)
	closeLedger(t, l)
	once(t, dir, want)
	if said.String() != "" {
		t.Errorf("logged %s", said)
	}
}

// A row may be written, and neither the committer nor the spiller hear of it, since
// the folder was away: when it is tried again it is known that it may be there.
func TestCommitAndSpillInDoubt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	l := newLedger(dir, Options{})
	defer l.disconnect()
	defer l.spill.close()
	for l.down == errNotOpen || l.behind {
		l.turn()
	}
	l.Pay(paid("once", 5))
	batch, _ := l.take()
	batch[0].spilling = true // the spiller writes it just now
	if err := l.database.Load().store(batch, true); err != nil {
		t.Fatal(err)
	}
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	l.commitBatch(batch)
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if l.down == nil {
		t.Error("a commit to a folder that is away is believed")
	}
	batch[0].spilling, batch[0].refused = false, true // that failed, too
	l.disconnect()
	if err := l.connect(); err != nil {
		t.Fatal(err)
	}
	l.urgent = true
	batch, _ = l.take()
	l.commitBatch(batch)
	if l.down != nil || len(batch) != 1 {
		t.Fatalf("%d rows, %v", len(batch), l.down)
	}
	l.disconnect()
	once(t, dir, []string{"once"})
}

// Who reads for long in a corrupt database, and finds that out when there is a new
// one, does not have that put aside.
func TestLateDoubt(t *testing.T) {
	l := newLedger(t.TempDir(), Options{})
	old, current := &database{}, &database{}
	l.database.Store(current)
	l.doubt(old, errGarbled)
	l.doubt(current, errBusyElsewhere)
	if l.suspect != nil {
		t.Errorf("a sound database is put aside: %v", l.suspect)
	}
	if l.doubt(current, errGarbled); l.suspect == nil {
		t.Error("a corrupt database is kept")
	}
}

var errBusyElsewhere = errors.New("busy elsewhere")

// Nobody who waits stands behind thousands who don't.
func TestWhoWaitsComesFirst(t *testing.T) {
	l := newLedger(t.TempDir(), Options{})
	l.down, l.behind = nil, false
	for i := range 3 * maxBatch {
		l.Record(free(fmt.Sprint(i)))
	}
	if batch, _ := l.take(); len(batch) != maxBatch || batch[0].request != "0" {
		t.Fatalf("%d rows are committed, from %s on", len(batch), batch[0].request)
	}
	l.Pay(paid("p", 1))
	batch, _ := l.take()
	if i := slices.IndexFunc(batch, func(e *entry) bool { return e.request == "p" }); i != 0 || batch[1].request != fmt.Sprint(maxBatch) {
		t.Errorf("the row that is waited for is number %d, then comes %s", i, batch[1].request)
	}
}

// A database that did not work is told to work when it took what was waiting, and
// to have everything when it has.
func TestWorksAgain(t *testing.T) {
	said := &log{}
	l := newLedger(t.TempDir(), Options{Log: zerolog.New(said)})
	defer l.disconnect()
	defer l.spill.close()
	l.fail(errors.New("on strike"))
	if s := l.State(); s.Condition != Spilling || !strings.Contains(s.Reason, "on strike") || strings.Count(said.String(), "on strike") != 1 {
		t.Errorf("state %+v, logged %s", s, said)
	}
	l.Record(free("f"))
	if err := l.connect(); err != nil {
		t.Fatal(err)
	}
	if s := l.State(); s.Condition != Spilling {
		t.Errorf("it has taken nothing, and the state is %+v", s)
	}
	l.mu.Lock()
	l.urgent = true
	l.mu.Unlock()
	batch, _ := l.take()
	l.commitBatch(batch)
	if s := l.State(); s.Condition != OK || len(batch) != 1 || strings.Contains(said.String(), "works again") {
		t.Errorf("nothing is read back yet; state %+v, logged %s", s, said)
	}
	for l.behind {
		l.turn()
	}
	if strings.Count(said.String(), "works again") != 1 {
		t.Errorf("logged %s", said)
	}
	if s := l.State(); s != (State{}) {
		t.Errorf("state %+v", s)
	}
}

func TestConditions(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*Ledger)
		want Condition
		says string
	}{
		"new":          {func(*Ledger) {}, OK, ""},
		"slow to open": {func(l *Ledger) { l.spilled = l.spilled.Add(-time.Minute) }, Behind, "read back"},
		"a slow write": {func(l *Ledger) {
			l.down, l.behind, l.inflight = nil, false, []*entry{{born: time.Now().Add(-time.Minute)}}
		}, Behind, "a write takes long"},
		"a busy one":  {func(l *Ledger) { l.down, l.behind, l.waiting = nil, false, []*entry{{born: time.Now()}} }, OK, ""},
		"down":        {func(l *Ledger) { l.down = errGone }, Spilling, "was removed"},
		"all is down": {func(l *Ledger) { l.down, l.noSpill = errGone, errors.New("no room") }, Spilling, "nor can its spill: no room"},
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
