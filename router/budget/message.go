package budget

import (
	"fmt"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Exceeded is the limit that does not allow a call.
type Exceeded struct {
	Key        string // the key of the limit; "" = the limit of all calls
	Period     Period
	Limit      usd.Amount
	Spent      usd.Amount
	Reserved   usd.Amount    // for calls in flight
	Estimate   usd.Amount    // of the rejected call
	Ends       time.Time     // end of the window
	RetryAfter time.Duration // until then
	Fleet      bool          // a limit that all boxes share. Spent is what this box cannot get of it

	Alone bool // the fleet cannot be asked for credit now

	hasKey bool // the call had a key
}

// Temporary returns whether the call may be made long before the window ends: only reservations
// for calls in flight keep it from the limit, or credit that the fleet can give to this box.
func (e *Exceeded) Temporary() bool {
	return e.Spent+e.Estimate <= e.Limit && e.Spent < e.Limit
}

// String is the message for the client. A client with a key gets no amounts of the common
// budget: what all keys have spent is for operators.
func (e *Exceeded) String() string {
	const next = "paid calls are accepted again after %s; local calls are not affected"
	if e.Fleet {
		return e.ofFleet()
	}
	if e.Key == allKeys && e.hasKey {
		return fmt.Sprintf("the %s budget of all keys does not allow this call, which may cost %s; "+next, e.Period, formatAmount(e.Estimate), e.Ends.Format(time.RFC3339))
	}
	spent := fmt.Sprintf("%s is spent", formatAmount(e.Spent))
	if e.Reserved > 0 {
		spent += fmt.Sprintf(" and %s is reserved for calls in flight", formatAmount(e.Reserved))
	}
	return fmt.Sprintf("the %s of %s does not allow this call, which may cost %s: %s; "+next,
		budgetName(e.Key, e.Period), formatAmount(e.Limit), formatAmount(e.Estimate), spent, e.Ends.Format(time.RFC3339))
}

// ofFleet is the message for a limit that the boxes share.
func (e *Exceeded) ofFleet() string {
	limit := fmt.Sprintf("the %s of the fleet, %s,", budgetName(e.Key, e.Period), formatAmount(e.Limit))
	if e.Key == allKeys && e.hasKey {
		limit = fmt.Sprintf("the fleet's %s budget of all keys", e.Period)
	}
	switch {
	case e.Temporary() && e.Alone:
		return fmt.Sprintf("this box has too little credit of %s for this call, which may cost %s, and cannot ask the fleet for more now; llmsup status on the box says why; local calls are not affected",
			limit, formatAmount(e.Estimate))
	case e.Temporary():
		return fmt.Sprintf("this box has too little credit of %s for this call, which may cost %s, and asks the fleet for more; try again in a second; local calls are not affected",
			limit, formatAmount(e.Estimate))
	}
	return fmt.Sprintf("%s does not allow this call, which may cost %s; paid calls are accepted again after %s; local calls are not affected",
		limit, formatAmount(e.Estimate), e.Ends.Format(time.RFC3339))
}

// Warning is that warnPercent of a limit are spent.
type Warning struct {
	Key    string // "" = of all calls
	Period Period
	Limit  usd.Amount
	Spent  usd.Amount
	Ends   time.Time // of the window
}

// String is the message for the operator.
func (w Warning) String() string {
	return fmt.Sprintf("%s of the %s is spent, %.0f %% of %s, until %s; paid calls that exceed it get a 429",
		formatAmount(w.Spent), budgetName(w.Key, w.Period), 100*w.Spent.Float()/w.Limit.Float(), formatAmount(w.Limit), w.Ends.Format(time.RFC3339))
}

func budgetName(key string, p Period) string {
	if key == allKeys {
		return p.String() + " budget"
	}
	return fmt.Sprintf("%s budget of key %s", p, key)
}

// formatAmount writes an amount to the cent, or with all digits if it is below one cent.
func formatAmount(a usd.Amount) string {
	if cent := usd.Dollar / 100; a > 0 && a < cent {
		return a.String() + " USD"
	}
	return fmt.Sprintf("%.2f USD", a.Float())
}
