package accounting

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/ledger"
)

// syncTimeout is how long a request for usage waits for the rows of calls that have just ended.
const syncTimeout = 250 * time.Millisecond

// Usage returns the sums of the calls of a period with one client key, "" = all, as
// control.Daemon does.
func (a *Accounting) Usage(ctx context.Context, key string, from, to time.Time, by string) (control.Usage, error) {
	if a.ledger == nil {
		return control.Usage{}, ErrNoLedger
	}
	incomplete := a.sync(ctx)
	what := []ledger.By{ledger.By(by)}
	if by == "" {
		what = []ledger.By{ledger.ByModel, ledger.ByFallbackReason, ledger.ByDay}
	}
	all, err := a.ledger.UsagesOf(ctx, key, from, to, what...)
	if err != nil {
		return control.Usage{}, err
	}
	u := control.Usage{From: all[0].From, To: all[0].To, Total: sums(all[0].Total), Groups: groups(all[0]), Incomplete: incomplete}
	if by == "" {
		u.Reasons, u.Days = groups(all[1]), groups(all[2])
	}
	return u, nil
}

func groups(u ledger.Usage) []control.UsageGroup {
	list := []control.UsageGroup{}
	for _, g := range u.Groups {
		list = append(list, control.UsageGroup{Name: g.Name, Sums: sums(g.Sums)})
	}
	return list
}

// sums converts sums. A sum is null if all of its values are unknown.
func sums(s ledger.Sums) control.Sums {
	out := control.Sums{
		Calls: s.Calls, Failed: s.Failed, Local: s.Local, Paid: s.Paid, Resumed: s.Resumed, Partial: s.Partial,
		UnknownTokens: s.UnknownTokens, UnknownCost: s.UnknownCost, UnknownSaved: s.UnknownSaved,
	}
	if s.UnknownTokens == 0 || s.Prompt+s.Completion > 0 {
		out.Prompt, out.Cached, out.Completion = &s.Prompt, &s.Cached, &s.Completion
	}
	if s.UnknownCost == 0 || s.Cost > 0 {
		cost := control.USD(s.Cost)
		out.Cost = &cost
	}
	if s.UnknownSaved == 0 || s.Saved > 0 {
		saved := control.USD(s.Saved)
		out.Saved = &saved
	}
	return out
}
