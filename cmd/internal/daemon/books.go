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
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	// closeTime is how long the ledger may take to write down what is left, and
	// hurriedTime when llmsup was told twice to end.
	closeTime   = 5 * time.Second
	hurriedTime = time.Second
	// restoreTime is how long the ledger may take at the start before it is told that
	// the budgets don't know what was spent, and restorePause lies between tries.
	restoreTime = 5 * time.Second
	// firstTime is how long the first calls wait for it.
	firstTime    = time.Second
	restorePause = 100 * time.Millisecond
)

// books are what the daemon knows of money: the ledger, the budgets and the
// prices, which last as long as it does.
type books struct {
	log    zerolog.Logger
	ledger *ledger.Ledger // nil = nothing is written down
	budget *budget.Budget
	since  time.Time // when this budget began to count
	prices *pricing

	patience time.Duration // restoreTime, but in a test
	restored chan struct{} // closed when the budget knows what was spent before
}

// openBooks opens them in the state directory. None of them is waited for.
func openBooks(c *config.Config, log zerolog.Logger) *books {
	b := &books{log: log, patience: restoreTime, since: time.Now(), prices: newPricing(pricesDir(c), log), restored: make(chan struct{})}
	b.budget = budget.New(c.Budget.Allowed(), func(w budget.Warning) {
		log.Warn().Str("key", w.Key).Str("period", w.Period.String()).Msg(w.String())
	})
	if !c.Ledger.Enabled {
		return b
	}
	dir := filepath.Join(c.StateDir, "ledger")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Error().Err(err).Msg("the ledger has no folder; what calls cost is kept in memory until it has")
	}
	b.ledger = ledger.Open(dir, ledger.Options{Keep: time.Duration(c.Ledger.Keep), Log: log})
	return b
}

// settle takes another configuration over, from the next call on.
func (b *books) settle(c *config.Config, upstreams []router.Upstream) {
	if b.ledger != nil {
		b.ledger.SetKeep(time.Duration(c.Ledger.Keep))
	}
	b.budget.SetConfig(c.Budget.Allowed())
	b.prices.settle(c, upstreams)
}

// forRouter returns them as the router uses them.
func (b *books) forRouter() router.Books {
	return router.Books{Ledger: b.ledger, Budget: b.budget, Prices: b.prices}
}

// restore fills the budget with what was spent before the start, as soon as the
// ledger can say. Calls are not held up meanwhile: they are booked, and what was
// spent before is added.
func (b *books) restore(ctx context.Context) {
	if b.ledger == nil {
		close(b.restored)
		return
	}
	told := false
	for began := time.Now(); ctx.Err() == nil; {
		err := b.tryRestore(ctx)
		switch {
		case err == nil && told:
			b.log.Info().Msg("the budgets know again what was spent before the start")
			close(b.restored)
			return
		case err == nil:
			close(b.restored)
			return
		case ctx.Err() != nil:
			return
		case !told && time.Since(began) > b.patience:
			told = true
			b.log.Warn().Err(err).Msg("the budgets don't know yet what was spent before the start; as soon as the ledger's database works they will")
		}
		select {
		case <-ctx.Done():
		case <-time.After(restorePause):
		}
	}
}

// await waits, where there are limits, until the budgets know what was spent before
// the start: else whoever restarts llmsup could spend a little more each time. A
// ledger that can't say keeps nobody waiting for long.
func (b *books) await(ctx context.Context) {
	if len(b.budget.Standings(b.since)) == 0 {
		return
	}
	select {
	case <-b.restored:
	case <-ctx.Done():
	case <-time.After(firstTime):
	}
}

func (b *books) tryRestore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	if err := b.ledger.AwaitImport(ctx); err != nil { // what is in a journal was spent, too
		return err
	}
	return b.budget.Restore(b.since, func(from, to time.Time) (map[string]usd.Amount, error) { return b.ledger.Spent(ctx, from, to) })
}

// close writes down what is left. No call may come any more.
func (b *books) close(hurry <-chan struct{}) {
	if b.ledger == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-hurry:
			select {
			case <-time.After(hurriedTime):
				cancel()
			case <-done:
			}
		case <-done:
		}
	}()
	if err := b.ledger.Close(ctx); err != nil {
		b.log.Error().Err(err).Msg("the ledger could not be closed")
	}
}

// ledgerStatus tells of the ledger.
func (b *books) ledgerStatus() control.Ledger {
	if b.ledger == nil {
		return control.Ledger{Condition: control.LedgerOff}
	}
	s := b.ledger.State()
	return control.Ledger{
		Condition: s.Condition.String(), Reason: s.Reason, LagSeconds: s.Lag.Seconds(), Waiting: s.Waiting, Lost: s.Lost, Aside: s.Aside,
	}
}

// budgetStatus tells of each limit.
func (b *books) budgetStatus() []control.Budget {
	list := []control.Budget{}
	for _, s := range b.budget.Standings(time.Now()) {
		list = append(list, control.Budget{
			Key: s.Key, Period: s.Period.String(), Limit: control.USD(s.Limit), Spent: control.USD(s.Spent), Reserved: control.USD(s.Reserved), Ends: s.Ends,
		})
	}
	return list
}
