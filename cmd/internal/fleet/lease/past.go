package lease

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	// pastTimeout limits a look into the ledger, and pastInterval is the time until the next if
	// it fails.
	pastTimeout  = 2 * time.Second
	pastInterval = 10 * time.Second
)

// past returns what the box has spent in a lease's window before the lease, according to its
// ledger: calls before Since, and more than the lease itself has had since then. (An earlier
// process whose clock was ahead has calls there.) It may be too much, never too little.
func (l *Leaser) past(ctx context.Context, lease *budget.Lease) (usd.Amount, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	total, err := l.spent(ctx, lease.Key, lease.From, lease.To)
	if err != nil {
		return 0, err
	}
	before := usd.Amount(0)
	switch since := lease.Since; {
	case since.After(lease.To):
		before = total
	case since.After(lease.From):
		if before, err = l.spent(ctx, lease.Key, lease.From, since); err != nil {
			return 0, err
		}
	}
	own := lease.Spent
	for _, now := range l.o.Budget.Leases(lease.From) { // its calls may have ended meanwhile
		if now.Unique == lease.Unique {
			own = now.Spent
		}
	}
	return before + max(total-before-own, 0), nil
}

// spent returns what the calls of a client's key have cost, "" = all calls.
func (l *Leaser) spent(ctx context.Context, key string, from, to time.Time) (sum usd.Amount, err error) {
	amounts, err := l.o.Spent(ctx, from, to)
	if err != nil {
		return 0, err
	}
	if key != "" {
		return amounts[key], nil
	}
	for _, amount := range amounts {
		sum += amount
	}
	return sum, nil
}
