package accounting

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/lease"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// FleetServices returns what has to run while the box is in its fleet: it takes credit of the
// fleet's budget.
func (a *Accounting) FleetServices() []fleet.Service { return []fleet.Service{a.leases} }

// openLeases prepares for the budget of a fleet.
func (a *Accounting) openLeases(c *config.Config) {
	o := lease.Options{Budget: a.budget, Log: a.log}
	if a.ledger != nil {
		if name, err := ledgerName(ledgerDir(c)); err != nil {
			a.log.Warn().Err(err).Msg("after a restart, credit of the fleet's budget that was not spent stays reserved until its window ends")
		} else {
			o.Ledger, o.Spent = name, a.spent
		}
	}
	a.leases = lease.New(o)
	a.budget.CountLeases(a.since) // also without a fleet: a reload may add it
	a.applyFleetBudget(c)
}

// applyFleetBudget applies the fleet's limits.
func (a *Accounting) applyFleetBudget(c *config.Config) {
	version := uint64(0)
	if c.Shared != nil {
		version = c.Shared.Version
	}
	a.leases.SetLimits(version, c.FleetBudget.Config())
}

// ledgerName returns the name of the ledger in a directory, which tells it from all others: a
// new one has another name, also one in place of a corrupt database.
func ledgerName(dir string) (string, error) {
	path := filepath.Join(dir, ledger.IDFile)
	id, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.TrimSpace(id)) == 0 {
		id = []byte(rand.Text())
		err = renameio.WriteFile(path, id, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("read the name of the ledger: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// spent returns what calls have cost, once the ledger has all calls of earlier processes.
func (a *Accounting) spent(ctx context.Context, from, since time.Time) (map[string]usd.Amount, error) {
	if err := a.ledger.AwaitImport(ctx); err != nil {
		return nil, err
	}
	if aside := a.ledger.State().Quarantined; aside != "" {
		return nil, fmt.Errorf("the ledger's database was corrupt, and is kept as %s", aside)
	}
	return a.ledger.Spent(ctx, from, since)
}

// fleetBudgetStatus returns an entry for each limit of the fleet.
func (a *Accounting) fleetBudgetStatus(v *fleet.View) (list []control.Budget) {
	var present []string
	if v != nil {
		present = append(present, v.Name)
		for _, b := range v.Boxes {
			present = append(present, b.Name)
		}
	}
	s := a.leases.Status(present)
	for _, l := range s.Limits {
		b := control.Budget{
			Key: l.Key, Period: l.Period.String(), Limit: control.USD(l.Limit), Spent: control.USD(l.Spent), Reserved: control.USD(l.Reserved), Ends: l.Ends,
			Fleet: &control.FleetBudget{Granted: control.USD(l.Granted), Left: control.USD(l.Left), Problem: s.Problem, Gone: []control.HeldBudget{}},
		}
		if l.Rebuilt {
			b.Fleet.Problem = "its record was lost, or replaced by a user of the NATS account without the fleet's key; no box takes more credit until all have added what they know of it, within seconds"
		}
		for _, g := range l.Gone {
			b.Fleet.Gone = append(b.Fleet.Gone, control.HeldBudget{Box: g.Box, Amount: control.USD(g.Amount), Since: g.Since})
		}
		list = append(list, b)
	}
	return list
}
