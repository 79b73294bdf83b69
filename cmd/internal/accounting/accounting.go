// Package accounting opens the ledger, the budgets and the prices that the configuration
// describes, keeps them up to date, and closes them. cmd/internal/daemon owns it and passes
// it to the router, which estimates and settles what calls cost (router/accounting). It
// never decides whether a call may be made.
package accounting

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/lease"
	routeraccounting "github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	// closeTimeout is the time for the ledger to write its pending rows at a stop, and
	// forcedCloseTimeout the time after a second signal.
	closeTimeout       = 5 * time.Second
	forcedCloseTimeout = time.Second
	// restoreTimeout is the time for restoring the budgets at the start before a warning
	// is logged. restoreInterval is the time between two attempts.
	restoreTimeout  = 5 * time.Second
	restoreInterval = 100 * time.Millisecond
	// maxStartDelay limits how long the first calls wait for the budgets.
	maxStartDelay = time.Second
)

// Accounting is the ledger, the budgets and the prices of a running daemon.
type Accounting struct {
	log    zerolog.Logger
	ledger *ledger.Ledger // nil = the configuration disables it
	budget *budget.Budget
	leases *lease.Leaser
	since  time.Time // the start of counting
	Prices *Prices

	restoreTimeout time.Duration // the constant; shorter in tests
	restored       chan struct{} // closed when the budgets include earlier spending
}

// Open opens the files in the state directory. It does not wait for the
// ledger's database.
func Open(c *config.Config, log zerolog.Logger) *Accounting {
	a := &Accounting{log: log, restoreTimeout: restoreTimeout, since: time.Now(), Prices: newPrices(pricesDir(c), log), restored: make(chan struct{})}
	a.budget = budget.New(c.Budget.Config(), func(w budget.Warning) {
		log.Warn().Str("key", w.Key).Str("period", w.Period.String()).Msg(w.String())
	})
	defer a.openLeases(c)
	if !c.Ledger.Enabled {
		return a
	}
	dir := ledgerDir(c)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Error().Err(err).Msg("cannot create the directory of the ledger; the costs of calls stay in memory until it exists")
	}
	a.ledger = ledger.Open(dir, ledger.Options{Retention: time.Duration(c.Ledger.Keep), Log: log})
	return a
}

func ledgerDir(c *config.Config) string { return filepath.Join(c.StateDir, "ledger") }

// ApplyConfig applies a new configuration, from the next call on.
func (a *Accounting) ApplyConfig(c *config.Config, upstreams []backend.UpstreamConfig) {
	if a.ledger != nil {
		a.ledger.SetRetention(time.Duration(c.Ledger.Keep))
	}
	a.budget.SetConfig(c.Budget.Config())
	a.applyFleetBudget(c)
	a.Prices.ApplyConfig(c, upstreams)
}

// ForRouter returns the parts that the router uses.
func (a *Accounting) ForRouter() routeraccounting.Accounting {
	return routeraccounting.Accounting{Ledger: a.ledger, Budget: a.budget, Prices: a.Prices}
}

// RestoreBudgets adds the spending before the start to the budgets, as soon as the ledger
// can be read. Earlier calls of this process count in any case.
func (a *Accounting) RestoreBudgets(ctx context.Context) {
	if a.ledger == nil {
		close(a.restored)
		return
	}
	logged := false
	for began := time.Now(); ctx.Err() == nil; {
		err := a.tryRestoreBudgets(ctx)
		switch {
		case err == nil && logged:
			a.log.Info().Msg("the budgets now include the spending before the start")
			close(a.restored)
			return
		case err == nil:
			close(a.restored)
			return
		case ctx.Err() != nil:
			return
		case !logged && time.Since(began) > a.restoreTimeout:
			logged = true
			a.log.Warn().Err(err).Msg("the budgets do not include the spending before the start until the ledger's database can be read")
		}
		select {
		case <-ctx.Done():
		case <-time.After(restoreInterval):
		}
	}
}

// AwaitBudgets waits until RestoreBudgets is done, if there are limits: otherwise each
// restart of llmsup would allow some more spending. If the fleet has limits, it waits for the
// first credit: paid calls would be rejected without. It waits at most maxStartDelay.
func (a *Accounting) AwaitBudgets(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxStartDelay)
	defer cancel()
	for what, limited := range map[<-chan struct{}]bool{
		a.restored: len(a.budget.Statuses(a.since)) > 0, a.leases.Ready(): len(a.budget.Leases(a.since)) > 0,
	} {
		if limited {
			select {
			case <-what:
			case <-ctx.Done():
			}
		}
	}
}

func (a *Accounting) tryRestoreBudgets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.restoreTimeout)
	defer cancel()
	if err := a.ledger.AwaitImport(ctx); err != nil { // rows in a journal count, too
		return err
	}
	return a.budget.Restore(a.since, func(from, to time.Time) (map[string]usd.Amount, error) { return a.ledger.Spent(ctx, from, to) })
}

// Close writes the pending rows. It must come after the last call. Closing forceStop
// shortens the wait.
func (a *Accounting) Close(forceStop <-chan struct{}) {
	if a.ledger == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-forceStop:
			select {
			case <-time.After(forcedCloseTimeout):
				cancel()
			case <-done:
			}
		case <-done:
		}
	}()
	if err := a.ledger.Close(ctx); err != nil {
		a.log.Error().Err(err).Msg("cannot close the ledger")
	}
}

// LedgerStatus returns the ledger's part of status.
func (a *Accounting) LedgerStatus() control.Ledger {
	if a.ledger == nil {
		return control.Ledger{Condition: control.LedgerOff}
	}
	s := a.ledger.State()
	return control.Ledger{
		Condition: s.Condition.String(), Reason: s.Reason, LagSeconds: s.Lag.Seconds(), Waiting: s.Waiting, Lost: s.Lost, Aside: s.Quarantined,
	}
}

// BudgetStatus returns an entry for each limit: those of this box, then those of its fleet.
func (a *Accounting) BudgetStatus(v *fleet.View) []control.Budget {
	list := []control.Budget{}
	for _, s := range a.budget.Statuses(time.Now()) {
		list = append(list, control.Budget{
			Key: s.Key, Period: s.Period.String(), Limit: control.USD(s.Limit), Spent: control.USD(s.Spent), Reserved: control.USD(s.Reserved), Ends: s.Ends,
		})
	}
	return append(list, a.fleetBudgetStatus(v)...)
}
