package accounting

import (
	"context"
	"errors"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/ledger"
)

// ErrNoLedger means that the configuration disables the ledger.
var ErrNoLedger = errors.New("the ledger is disabled (ledger.enabled: false in llmsup.yaml)")

// Calls returns the calls that have ended, as control.Calls does.
func (a *Accounting) Calls(ctx context.Context, q control.CallsQuery) (page control.CallsPage, err error) {
	selected, err := callQuery(q)
	if err != nil {
		return page, err
	}
	if a.ledger == nil {
		return page, ErrNoLedger
	}
	page.Incomplete = a.sync(ctx)
	rows, next, err := a.ledger.Calls(ctx, selected)
	if err != nil {
		return page, err
	}
	for i := range rows {
		page.Calls = append(page.Calls, CallOf(&rows[i]))
	}
	page.Next = string(next)
	return page, nil
}

// EachCall emits all calls that have ended, as control.Calls does.
func (a *Accounting) EachCall(ctx context.Context, q control.CallsQuery, emit func(control.Call) error) error {
	selected, err := callQuery(q)
	if err != nil {
		return err
	}
	if a.ledger == nil {
		return ErrNoLedger
	}
	a.sync(ctx)
	return a.ledger.EachCall(ctx, selected, func(r *ledger.Row) error { return emit(CallOf(r)) })
}

// Call returns a call that has ended; false = the ledger does not have it.
func (a *Accounting) Call(ctx context.Context, id ledger.CallID) (call control.Call, found bool, err error) {
	if a.ledger == nil {
		return call, false, nil
	}
	a.sync(ctx)
	row, err := a.ledger.Call(ctx, id)
	if err != nil || row == nil {
		return call, false, err
	}
	return CallOf(row), true, nil
}

// sync waits for the rows of calls that have just ended, and returns why some may be missing.
func (a *Accounting) sync(ctx context.Context) (incomplete string) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	err := a.ledger.Sync(ctx)
	switch s := a.ledger.State(); {
	case err != nil && s.Condition != ledger.OK:
		return "the ledger is " + s.Condition.String() + ": " + s.Reason
	case s.Converting:
		return "calls of an earlier version are being converted; sums of whole days have them"
	}
	return ""
}

func callQuery(q control.CallsQuery) (selected ledger.CallQuery, err error) {
	selected = ledger.CallQuery{
		Since: q.Since, Until: q.Until, Key: q.Key, Model: q.Model, Backend: q.Backend, Reason: q.Reason,
		Limit: q.Limit, After: ledger.Cursor(q.After),
	}
	if selected.Limit == 0 {
		selected.Limit = control.DefaultCalls
	}
	selected.MinStatus, selected.MaxStatus, err = q.StatusRange()
	return selected, err
}

// CallOf returns a call that has ended.
func CallOf(r *ledger.Row) control.Call {
	return control.Call{
		ID: r.CallID().String(), Time: r.Time.UTC().Truncate(time.Millisecond), Request: r.Request, Key: r.Key, Route: r.Route, Model: r.Model,
		Backend: r.Backend, BackendModel: r.Served, Reason: r.Reason, Phase: control.PhaseEnded, Status: r.Status,
		Stream: r.Stream, Local: r.Local, WaitMS: msOrNil(r.Wait), FirstMS: msOrNil(r.FirstAnswer), MS: r.Duration.Milliseconds(),
		Prompt: r.Prompt, Cached: r.Cached, Completion: r.Completion, Cost: (*control.USD)(r.Cost), Saved: (*control.USD)(r.Saved),
		Resumed: r.Resumed, Partial: r.Partial, Attempts: AttemptsOf(r.Attempts),
	}
}

// AttemptsOf returns the attempts at a call.
func AttemptsOf(attempts []ledger.Attempt) (list []control.CallAttempt) {
	for _, a := range attempts {
		list = append(list, control.CallAttempt{
			Backend: a.Backend, Model: a.Model, Reason: a.Reason, Status: a.Status, MS: a.MS, Cost: (*control.USD)(a.Cost), Skipped: a.Skipped, Detail: a.Detail,
		})
	}
	return list
}

// msOrNil returns a time in milliseconds; nil = there was none.
func msOrNil(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	return new(d.Milliseconds())
}
