package accounting

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// fleetBox is the accounting of a box that is, or will be, in a fleet.
type fleetBox struct {
	*Accounting
	t *testing.T
}

// openBox opens the accounting of a box with a state directory.
func openBox(t *testing.T, dir string, settings fleet.Settings) *fleetBox {
	t.Helper()
	a := Open(&config.Config{StateDir: dir, Ledger: config.Ledger{Enabled: true}, Fleet: settings}, zerolog.Nop())
	return &fleetBox{a, t}
}

// settings are those of a box in the fleet of a server and a key.
func settings(t *testing.T, url, name, key string) fleet.Settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	return fleet.Settings{NATS: fleet.Servers{url}, Name: name, Advertise: "http://" + name + ":8000", KeyFile: file}
}

// join has the box join the fleet, until the function that it returns is called.
func (b *fleetBox) join(s fleet.Settings) (leave func()) {
	m := fleet.New(fleet.Options{
		Settings: s, State: func() fleet.Box { return fleet.Box{Version: "test"} }, Changes: func() []<-chan struct{} { return nil },
		Services: b.FleetServices(), Log: zerolog.Nop(),
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// pay makes a paid call, which is in the ledger soon afterwards.
func (b *fleetBox) pay(cost usd.Amount) {
	b.t.Helper()
	began := time.Now()
	r, exceeded := b.budget.Reserve(began, "", cost)
	for ; exceeded != nil; r, exceeded = b.budget.Reserve(began, "", cost) {
		if !exceeded.Temporary() || time.Since(began) > 20*time.Second {
			b.t.Fatal(exceeded)
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.Settle(cost)
	if !b.ledger.Record(ledger.Row{Time: began, Dimensions: ledger.Dimensions{Paid: true, Status: 200}, Cost: &cost}).Wait() {
		b.t.Fatal("a row is not durable")
	}
}

// limit sets the fleet's limit of a day.
func (b *fleetBox) limit(amount usd.Amount) {
	b.leases.SetLimits(1, budget.Config{Limits: budget.Limits{Daily: &amount}})
}

// awaitSpent waits until the fleet's record says what is spent, as far as this box knows.
func (b *fleetBox) awaitSpent(want usd.Amount) {
	b.t.Helper()
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s := b.leases.Status(nil)
		if len(s.Limits) == 1 && s.Problem == "" && s.Limits[0].Granted > 0 && s.Limits[0].Spent == want {
			return
		}
		if time.Now().After(late) {
			b.t.Fatalf("not %s are spent: %+v", want, s)
		}
	}
}

const fleetKey = "0123456789abcdef0123456789abcdef"

// TestLimitAfterSpending: a limit that is set long after the start counts what the box has spent in
// its window once, and so does the next process.
func TestLimitAfterSpending(t *testing.T) {
	t.Parallel()
	dir, own := t.TempDir(), settings(t, fleettest.Start(t).URL, "gpu1", fleetKey)
	earlier := openBox(t, dir, own)
	earlier.pay(usd.Dollar)
	earlier.Close(nil)
	b := openBox(t, dir, own)
	leave := b.join(own)
	b.pay(6 * usd.Dollar)
	b.limit(20 * usd.Dollar)
	b.awaitSpent(7 * usd.Dollar)
	leave()
	b.Close(nil)
	next := openBox(t, dir, own)
	next.limit(20 * usd.Dollar)
	leave = next.join(own)
	next.awaitSpent(7 * usd.Dollar)
	leave()
	next.Close(nil)
}

// TestLedgerName: a ledger keeps its name, and a new one in its place has another.
func TestLedgerName(t *testing.T) {
	name := func(dir string) string {
		t.Helper()
		n, err := ledgerName(dir)
		if err != nil || n == "" {
			t.Fatalf("%q, %v", n, err)
		}
		return n
	}
	dir := t.TempDir()
	first := name(dir)
	if again := name(dir); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other := name(t.TempDir()); other == first {
		t.Error("two ledgers have one name")
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.db"), bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	l := ledger.Open(dir, ledger.Options{Log: zerolog.Nop()})
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(l.State().Quarantined); err != nil {
		t.Fatal(err)
	}
	if renewed := name(dir); renewed == first {
		t.Error("a new database in place of a corrupt one has its name")
	}
	if _, err := ledgerName(filepath.Join(dir, "missing")); err == nil {
		t.Error("no error without a directory")
	}
}

// TestOtherFleet: in another fleet a box enters what it has spent, also a moment before that it is not in the
// ledger's database yet, and what is still in flight. So it does in its first one, which a reload adds.
func TestOtherFleet(t *testing.T) {
	t.Parallel()
	url := fleettest.Start(t).URL
	b := openBox(t, t.TempDir(), fleet.Settings{})
	inFlight, exceeded := b.budget.Reserve(time.Now(), "", 0) // there is no limit yet
	if exceeded != nil {
		t.Fatal(exceeded)
	}
	b.pay(usd.Dollar)
	own := settings(t, url, "gpu1", fleetKey)
	b.ApplyConfig(&config.Config{Fleet: own}, nil)
	b.limit(20 * usd.Dollar)
	leave := b.join(own)
	b.awaitSpent(usd.Dollar)
	inFlight.Settle(usd.Dollar / 2)
	b.awaitSpent(usd.Dollar + usd.Dollar/2)
	leave()
	b.pay(usd.Dollar)
	leave = b.join(settings(t, url, "gpu1", fleetKey+"other"))
	b.awaitSpent(2*usd.Dollar + usd.Dollar/2)
	leave()
	b.Close(nil)
}
