package threeboxes

import (
	"net/http"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/ledger/ledgertest"
	"github.com/llmsup/llmsup/router/usd"
)

// checkLedgers compares the ledgers of all boxes with what the clients got and the upstream
// billed, and returns what the boxes count. Each call has one row, at the box that its client
// called. No calls are made meanwhile.
func (f *fleet) checkLedgers(t *testing.T) (charged usd.Amount) {
	t.Helper()
	f.clients.mu.Lock()
	defer f.clients.mu.Unlock()
	f.paid.mu.Lock()
	defer f.paid.mu.Unlock()
	if len(f.paid.twice) > 0 {
		t.Errorf("the upstream got these calls more than once: %q", f.paid.twice)
	}
	recorded := map[string]bool{}
	for _, b := range f.boxes {
		rows := b.rows(t)
		var own usd.Amount
		for _, row := range rows {
			if problem := f.compare(b, &row); problem != "" {
				t.Errorf("%s: %s: %+v", b.name, problem, row)
			}
			if recorded[row.Request] {
				t.Errorf("%s is in the ledgers twice", row.Request)
			}
			recorded[row.Request] = true
			own += row.Charged
		}
		b.checkBudget(t, own)
		charged += own
	}
	missing := 0
	for id, a := range f.clients.attempts {
		if _, billed := f.paid.bills[id]; (billed || a.whole) && !recorded[id] {
			if missing++; missing <= 5 {
				t.Errorf("%s is not in the ledger of %s; whole answer: %t, billed: %t", id, a.box.name, a.whole, billed)
			}
		}
	}
	if f.paid.over > 0 {
		t.Errorf("the upstream has billed %s USD, which is more than the budget of the fleet", f.paid.total)
	}
	t.Logf("%d rows; the upstream has billed %s USD for %d calls, the boxes count %s", len(recorded), f.paid.total, len(f.paid.bills), charged)
	return charged
}

// checkFleetBudget waits until each box knows that all boxes together were charged so much, to
// the picodollar. A box tells the others every few seconds.
func (f *fleet) checkFleetBudget(t *testing.T, charged usd.Amount) {
	t.Helper()
	began := time.Now()
	for _, b := range f.boxes {
		var last control.Budget
		if !eventually(patience, func() bool {
			if shared := b.fleetBudget(); shared != nil {
				last = *shared
			}
			return usd.Amount(last.Spent) == charged && last.Reserved == 0
		}) {
			t.Errorf("the rows of all boxes are charged %s USD, for %s the budget of the fleet is %+v %+v", charged, b.name, last, last.Fleet)
		}
	}
	t.Logf("all boxes know that after %s", time.Since(began).Round(time.Millisecond))
}

// reserved is what a box counts at least for a paid call that a kill has cut.
const reserved = 1

// compare returns what is wrong with a row.
func (f *fleet) compare(b *box, row *ledgertest.Call) (problem string) {
	a, made := f.clients.attempts[row.Request]
	bill, billed := f.paid.bills[row.Request]
	switch {
	case !made:
		return "no client made this call"
	case a.box != b:
		return "the client made this call at " + a.box.name
	case a.whole && (row.Status != http.StatusOK || row.Partial):
		return "the client got a whole answer"
	case billed && !row.Paid:
		return "the upstream has billed this call"
	case billed && row.Cost != nil && *row.Cost == bill && row.Charged == bill:
		return ""
	case billed && !a.whole && row.Charged >= reserved: // a kill cut it: what was reserved counts
		return ""
	case billed:
		return "the upstream has billed " + bill.String()
	case a.whole && row.Charged != 0:
		return "the upstream has not billed this call"
	}
	return ""
}

// rows returns the rows of the ledger, once all of them are committed.
func (b *box) rows(t *testing.T) []ledgertest.Call {
	t.Helper()
	await(t, b.name+" without rows that are not committed", func() bool {
		now := time.Now() // the request has the rows committed soon
		_, err := b.client.Usage(t.Context(), now.Add(-time.Hour), now.Add(time.Hour), "")
		s, statusErr := b.client.Status(t.Context())
		return err == nil && statusErr == nil && s.Ledger.LagSeconds == 0
	})
	return ledgertest.Calls(t, b.state)
}

// checkBudget waits until the box counts what its rows were charged, to the picodollar.
func (b *box) checkBudget(t *testing.T, charged usd.Amount) {
	t.Helper()
	var last control.Budget
	if !eventually(patience, func() bool {
		if own := b.budget(false); own != nil {
			last = *own
		}
		return usd.Amount(last.Spent) == charged && last.Reserved == 0
	}) {
		t.Errorf("the rows of %s are charged %s USD, its budget is %+v", b.name, charged, last)
	}
}
