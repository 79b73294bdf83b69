package ledger

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// A shorter retention deletes old rows at once, and not an hour later.
func TestSetRetention(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	old := free("old")
	old.Time = time.Now().Add(-72 * time.Hour)
	l.Record(old)
	l.Record(free("new"))
	synced(t, l)
	l.SetRetention(0) // as it is
	l.SetRetention(24 * time.Hour)
	await(t, "the old row is deleted", func() bool { return len(rowsOf(t, dir)) == 1 })
	if left := rowsOf(t, dir); left[0] != "new" {
		t.Errorf("%q are left", left)
	}
	if u := usage(t, l, time.Time{}, time.Time{}, ByModel); u.Total.Calls != 2 {
		t.Errorf("the sums of days have %d calls", u.Total.Calls)
	}
}

// When AwaitImport returns, the sums include the rows that an earlier llmsup left. It
// returns an error if the database does not work.
func TestAwaitImport(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, databaseName), 0o700); err != nil { // it cannot be opened
		t.Fatal(err)
	}
	l, _ := open(t, dir, Options{})
	written(t, l.Record(paid("spilled", 7)))
	await(t, "the database cannot be opened", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.databaseErr != nil && l.databaseErr != errNotOpen
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.AwaitImport(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a database the error is %v", err)
	}
	if err := os.Remove(filepath.Join(dir, databaseName)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := l.AwaitImport(ctx); err != nil {
		t.Fatal(err)
	}
	if spent, err := l.Spent(t.Context(), time.UnixMilli(0), time.Now().Add(time.Hour)); err != nil || spent["tool"] != 7 {
		t.Errorf("%v is spent, %v", spent, err)
	}
}

// Several sums are of the same calls, whatever is recorded between them.
func TestUsages(t *testing.T) {
	l, _ := open(t, t.TempDir(), Options{})
	away := paid("away", 5)
	away.LocalPrimary, away.Reason = true, "restarting"
	refused := Row{Time: time.Now(), Dimensions: Dimensions{LocalPrimary: true, Reason: "failed", Status: 503, Route: "local/qwen"}}
	other := paid("premium", 9)
	other.Reason = "timeout"                                                                                                         // of the primary, which is no server of ours
	ownError := Row{Time: time.Now(), Dimensions: Dimensions{LocalPrimary: true, Backend: "qwen", Status: 501, Route: "local/qwen"}} // did not leave it
	resumed := paid("resumed", 7)
	resumed.LocalPrimary, resumed.Local, resumed.Resumed, resumed.Backend = true, true, true, "qwen"
	inVain := Row{Time: time.Now(), Dimensions: Dimensions{LocalPrimary: true, Reason: "timeout", Status: 502, Route: "local/qwen", Paid: true}, Cost: new(usd.Amount(3))}
	for _, r := range []Row{away, refused, other, ownError, resumed, inVain, free("local")} {
		l.Record(r)
	}
	synced(t, l)
	all, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByModel, ByFallbackReason, ByReason)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if all[0].Total.Calls != 7 || all[0].Total != all[2].Total || all[0].Total.UnknownTokens != 0 {
		t.Errorf("all: %+v\nby reason: %+v", all[0].Total, all[2].Total)
	}
	left := map[string]usd.Amount{}
	for _, g := range all[1].Groups {
		left[g.Name] = g.Cost
	}
	if want := map[string]usd.Amount{"restarting": 5, "lost": 7, "timeout": 3}; !maps.Equal(left, want) || all[1].Total.Calls != 3 {
		t.Errorf("what left local: %v, want %v", left, want)
	}
	if _, err := l.Usages(t.Context(), time.Time{}, time.Time{}, ByModel, "shoe size"); err == nil {
		t.Error("anything can be added up by")
	}
	if _, err := (*Ledger)(nil).Usages(t.Context(), time.Time{}, time.Time{}, ByModel); err == nil {
		t.Error("no ledger has sums")
	}
	withDatabase(t, l.dir, func(db *sql.DB) error {
		var meant int
		if err := db.QueryRow("SELECT count(*) FROM calls WHERE meant").Scan(&meant); err != nil || meant != 5 {
			t.Errorf("%d rows were meant for local, %v", meant, err)
		}
		return nil
	})
}
