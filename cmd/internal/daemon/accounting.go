package daemon

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router"
	routeraccounting "github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	// closeTimeout is how long the ledger may take at a stop to write the rows that are
	// waiting, and forcedCloseTimeout how long after a second signal.
	closeTimeout       = 5 * time.Second
	forcedCloseTimeout = time.Second
	// restoreTimeout is how long restoring the budgets may take at the start before a
	// warning is logged. It is tried again every restoreInterval.
	restoreTimeout  = 5 * time.Second
	restoreInterval = 100 * time.Millisecond
	// maxStartDelay is how long the first calls wait for it.
	maxStartDelay = time.Second
)

// accounting is the ledger, the budgets and the prices, from the daemon's start to its
// end.
type accounting struct {
	log    zerolog.Logger
	ledger *ledger.Ledger // nil = it is turned off
	budget *budget.Budget
	since  time.Time // when this budget began to count
	prices *pricing

	restoreTimeout time.Duration // the constant, or a test's
	restored       chan struct{} // closed when the budgets include what was spent before the start
}

// openAccounting opens the files in the state directory. It does not wait for the
// ledger's database.
func openAccounting(c *config.Config, log zerolog.Logger) *accounting {
	a := &accounting{log: log, restoreTimeout: restoreTimeout, since: time.Now(), prices: newPricing(pricesDir(c), log), restored: make(chan struct{})}
	a.budget = budget.New(c.Budget.Config(), func(w budget.Warning) {
		log.Warn().Str("key", w.Key).Str("period", w.Period.String()).Msg(w.String())
	})
	if !c.Ledger.Enabled {
		return a
	}
	dir := filepath.Join(c.StateDir, "ledger")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Error().Err(err).Msg("the ledger has no folder; what calls cost is kept in memory until it has")
	}
	a.ledger = ledger.Open(dir, ledger.Options{Retention: time.Duration(c.Ledger.Keep), Log: log})
	return a
}

// applyConfig applies another configuration, from the next call on.
func (a *accounting) applyConfig(c *config.Config, upstreams []router.Upstream) {
	if a.ledger != nil {
		a.ledger.SetRetention(time.Duration(c.Ledger.Keep))
	}
	a.budget.SetConfig(c.Budget.Config())
	a.prices.applyConfig(c, upstreams)
}

// forRouter returns the parts that the router uses.
func (a *accounting) forRouter() routeraccounting.Accounting {
	return routeraccounting.Accounting{Ledger: a.ledger, Budget: a.budget, Prices: a.prices}
}

// restoreBudgets adds what was spent before the start to the budgets, as soon as the
// ledger can be read. Calls that come earlier count in any case.
func (a *accounting) restoreBudgets(ctx context.Context) {
	if a.ledger == nil {
		close(a.restored)
		return
	}
	logged := false
	for began := time.Now(); ctx.Err() == nil; {
		err := a.tryRestoreBudgets(ctx)
		switch {
		case err == nil && logged:
			a.log.Info().Msg("the budgets know again what was spent before the start")
			close(a.restored)
			return
		case err == nil:
			close(a.restored)
			return
		case ctx.Err() != nil:
			return
		case !logged && time.Since(began) > a.restoreTimeout:
			logged = true
			a.log.Warn().Err(err).Msg("the budgets don't know yet what was spent before the start; as soon as the ledger's database works they will")
		}
		select {
		case <-ctx.Done():
		case <-time.After(restoreInterval):
		}
	}
}

// awaitBudgets waits, where there are limits, until restoreBudgets is done: else each
// restart of llmsup would let a little more be spent. It waits at most maxStartDelay.
func (a *accounting) awaitBudgets(ctx context.Context) {
	if len(a.budget.Statuses(a.since)) == 0 {
		return
	}
	select {
	case <-a.restored:
	case <-ctx.Done():
	case <-time.After(maxStartDelay):
	}
}

func (a *accounting) tryRestoreBudgets(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.restoreTimeout)
	defer cancel()
	if err := a.ledger.AwaitImport(ctx); err != nil { // what is in a journal was spent, too
		return err
	}
	return a.budget.Restore(a.since, func(from, to time.Time) (map[string]usd.Amount, error) { return a.ledger.Spent(ctx, from, to) })
}

// close writes the rows that are waiting. No call may come after it. Closing forceStop
// shortens the wait.
func (a *accounting) close(forceStop <-chan struct{}) {
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
		a.log.Error().Err(err).Msg("the ledger could not be closed")
	}
}

// ledgerStatus is the ledger's part of status.
func (a *accounting) ledgerStatus() control.Ledger {
	if a.ledger == nil {
		return control.Ledger{Condition: control.LedgerOff}
	}
	s := a.ledger.State()
	return control.Ledger{
		Condition: s.Condition.String(), Reason: s.Reason, LagSeconds: s.Lag.Seconds(), Waiting: s.Waiting, Lost: s.Lost, Aside: s.Quarantined,
	}
}

// budgetStatus has an entry for each limit.
func (a *accounting) budgetStatus() []control.Budget {
	list := []control.Budget{}
	for _, s := range a.budget.Statuses(time.Now()) {
		list = append(list, control.Budget{
			Key: s.Key, Period: s.Period.String(), Limit: control.USD(s.Limit), Spent: control.USD(s.Spent), Reserved: control.USD(s.Reserved), Ends: s.Ends,
		})
	}
	return list
}
