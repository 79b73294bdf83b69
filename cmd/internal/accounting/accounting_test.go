package accounting

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// TestBudgetIsRestored: what was spent before the start counts as soon as the ledger
// can be read. Until then, one warning is logged, and calls count.
func TestBudgetIsRestored(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	limit := config.Dollars(usd.Dollar)
	c := &config.Config{StateDir: t.TempDir(), Ledger: config.Ledger{Enabled: true}, Budget: config.Budget{Limits: config.Limits{Daily: &limit}}}
	spend := func(a *Accounting, cost usd.Amount) {
		r, exceeded := a.budget.Reserve(time.Now(), "", cost)
		if exceeded != nil {
			t.Fatal(exceeded)
		}
		r.Settle(cost)
		if !a.ledger.Record(ledger.Row{Time: time.Now(), Dimensions: ledger.Dimensions{Paid: true, Status: 200}, Cost: &cost}).Wait() {
			t.Fatal("a row is not durable")
		}
	}
	first := Open(c, zerolog.Nop())
	spend(first, 5)
	first.Close(nil)

	// It cannot be opened as long as there is a folder in its place.
	path := filepath.Join(c.StateDir, "ledger", "ledger.db")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	log := &logLines{lines: make(chan string, 100)}
	a := Open(c, zerolog.New(log))
	a.restoreTimeout = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	restored := make(chan struct{})
	go func() { defer close(restored); a.RestoreBudgets(ctx) }()
	spend(a, 7)
	for !strings.Contains(log.next(t), "do not include the spending before") {
	}
	if s := a.BudgetStatus(nil); len(s) != 1 || s[0].Spent != 7 {
		t.Errorf("budgets %+v", s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	<-restored
	if s := a.BudgetStatus(nil); s[0].Spent != 12 || s[0].Limit != control.USD(usd.Dollar) || s[0].Period != "daily" {
		t.Errorf("budgets %+v", s)
	}
	if n := strings.Count(log.String(), "do not include"); n != 1 || !strings.Contains(log.String(), "now include the spending") {
		t.Errorf("logged %d times:\n%s", n, log)
	}
	cancel()
	a.Close(nil)
}

// TestBudgetIsNotRestored: a stop during the restoring is not an error, and does not wait.
func TestBudgetIsNotRestored(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := &config.Config{StateDir: t.TempDir(), Ledger: config.Ledger{Enabled: true}}
	if err := os.MkdirAll(filepath.Join(c.StateDir, "ledger", "ledger.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	a := Open(c, zerolog.Nop())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.RestoreBudgets(ctx)
	forceStop := make(chan struct{})
	close(forceStop)
	a.Close(forceStop)
}
