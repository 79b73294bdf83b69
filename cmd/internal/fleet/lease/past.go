package lease

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	// pastTimeout limits a query of the ledger, and pastInterval is the time until the next one if
	// it fails.
	pastTimeout  = 2 * time.Second
	pastInterval = 10 * time.Second
)

// past returns what the box has spent in a lease's window before the lease, according to its
// ledger. It may be too much if a clock was ahead, but never too little.
func (l *Leaser) past(ctx context.Context, lease *budget.Lease) (usd.Amount, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	after, err := l.spentFrom(ctx, lease, lease.To) // first: it can only grow
	if err != nil {
		return 0, err
	}
	sum, err := l.spentFrom(ctx, lease, lease.From)
	return sum - after, err
}

// spentFrom returns what the ledger has of a lease's calls that came before the lease, from a day on.
func (l *Leaser) spentFrom(ctx context.Context, lease *budget.Lease, day time.Time) (sum usd.Amount, err error) {
	amounts, err := l.o.Spent(ctx, day, lease.Since)
	if err != nil {
		return 0, err
	}
	if lease.Key != "" {
		return amounts[lease.Key], nil
	}
	for _, amount := range amounts {
		sum += amount
	}
	return sum, nil
}
