package budget

import (
	"fmt"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// Exceeded says which limit keeps a call from being paid for.
type Exceeded struct {
	Key      string // whose limit it is; "" = that of all calls together
	Period   Period
	Limit    usd.Amount
	Spent    usd.Amount
	Reserved usd.Amount // for calls that are under way
	Estimate usd.Amount // of the call that was refused
	// Ends is when the window is over, and RetryAfter how long that is from now.
	Ends       time.Time
	RetryAfter time.Duration

	hasKey bool // the call came with a key
}

// OnlyByReservations says that the call would be within the limit but for what is set aside for
// calls under way: some of that may be given back long before the window ends.
func (e *Exceeded) OnlyByReservations() bool {
	return e.Spent+e.Estimate <= e.Limit && e.Spent < e.Limit
}

// String says it for the caller. What all keys have spent is for operators: a call
// with a key gets no amounts of theirs.
func (e *Exceeded) String() string {
	const next = "paid calls are accepted again after %s; local calls are not affected"
	if e.Key == allKeys && e.hasKey {
		return fmt.Sprintf("the %s budget of all keys does not allow this call, which may cost %s; "+next, e.Period, formatAmount(e.Estimate), e.Ends.Format(time.RFC3339))
	}
	spent := fmt.Sprintf("%s is spent", formatAmount(e.Spent))
	if e.Reserved > 0 {
		spent += fmt.Sprintf(" and %s is set aside for calls that are under way", formatAmount(e.Reserved))
	}
	return fmt.Sprintf("the %s of %s does not allow this call, which may cost %s: %s; "+next,
		budgetName(e.Key, e.Period), formatAmount(e.Limit), formatAmount(e.Estimate), spent, e.Ends.Format(time.RFC3339))
}

// Warning says that most of a limit is gone.
type Warning struct {
	Key    string // "" = of all calls together
	Period Period
	Limit  usd.Amount
	Spent  usd.Amount
	Ends   time.Time // of the window
}

// String says it for the operator.
func (w Warning) String() string {
	return fmt.Sprintf("%s of the %s is spent, %.0f %% of %s, until %s; over it calls that cost money get a 429",
		formatAmount(w.Spent), budgetName(w.Key, w.Period), 100*w.Spent.Float()/w.Limit.Float(), formatAmount(w.Limit), w.Ends.Format(time.RFC3339))
}

func budgetName(key string, p Period) string {
	if key == allKeys {
		return p.String() + " budget"
	}
	return fmt.Sprintf("%s budget of key %s", p, key)
}

// formatAmount writes an amount so that people can read it: to the cent, or to the last
// digit where it is less than one.
func formatAmount(a usd.Amount) string {
	if cent := usd.Dollar / 100; a > 0 && a < cent {
		return a.String() + " USD"
	}
	return fmt.Sprintf("%.2f USD", a.Float())
}
