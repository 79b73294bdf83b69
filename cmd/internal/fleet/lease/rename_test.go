package lease

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// spend has the box spend an amount, in one call.
func (b *modelBox) spend(amount usd.Amount) {
	for !b.begin("", amount) {
		b.w.supplyAll()
	}
	b.end(0, amount)
}

// latest returns the present record of a day.
func (w *world) latest(at time.Time) *Record {
	list := w.history[windowKey(windows("", at)[0])]
	return list[len(list)-1]
}

// TestRenamed: what a box has spent counts once after it has got another name, and so it does in its
// processes after that.
func TestRenamed(t *testing.T) {
	limits := budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}}
	for name, restart := range map[string]bool{"by a restart": true, "by a reload": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, limits)
				w.faults = false
				b := w.boxes[0]
				check := func(spent, held usd.Amount) {
					t.Helper()
					time.Sleep(reportInterval + time.Second)
					w.supplyAll()
					r := w.latest(b.now())
					granted := usd.Amount(0)
					for _, h := range r.Holders {
						if h.Ledger == "ledger of box0" && h.Lease != b.budget.Leases(b.now())[0].Unique {
							granted += h.Granted
						}
					}
					if granted < spent || granted > spent+held {
						t.Errorf("%s were spent before, and %s count: %+v", spent, granted, r.Holders)
					}
				}
				b.spend(20 * cent)
				b.start(1, limits)
				b.spend(10 * cent)
				check(20*cent, 0)
				unspent := b.budget.Leases(b.now())[0].Granted - 10*cent
				spent := 20 * cent
				b.name = "renamed"
				if restart {
					b.start(1, limits)
					spent += 10 * cent
				}
				check(spent, unspent)
				b.spend(5 * cent)
				b.start(1, limits)
				check(35*cent, unspent)
				b.start(1, limits)
				check(35*cent, unspent)
			})
		})
	}
}

// TestCopiedLedger: a box with a copy of the state directory of another one, which goes on, counts all that
// either spends.
func TestCopiedLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := budget.Config{Limits: budget.Limits{Daily: new(usd.Dollar)}}
		w := newWorld(t, 1, limits)
		w.faults = false
		a, b := w.boxes[0], w.boxes[1]
		a.spend(20 * cent)
		time.Sleep(reportInterval + time.Second)
		w.supplyAll()
		b.name, b.ledgerName, b.rows = "copy", a.ledgerName, slices.Clone(a.rows)
		b.start(1, limits)
		w.supplyAll()
		for range 3 {
			a.spend(3 * cent)
			b.spend(2 * cent)
			b.start(1, limits)
			time.Sleep(reportInterval + time.Second)
			w.supplyAll()
		}
		if closed := w.latest(b.now()).closed(Holder{Box: "copy", Ledger: a.ledgerName}); closed != 6*cent {
			t.Errorf("%s of 0.06 USD count", closed)
		}
	})
}
