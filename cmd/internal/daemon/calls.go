package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/ledger"
)

// maxInFlight limits the calls in flight of a list.
const maxInFlight = 500

// Calls implements control.Daemon. Without a ledger that can be read, the calls that have ended
// are the last ones.
func (d *Daemon) Calls(ctx context.Context, q control.CallsQuery) (control.CallsPage, error) {
	var running []control.Call
	if q.After == "" {
		running = d.callsInFlight(q)
	}
	page, err := d.accounting.Calls(ctx, q)
	switch {
	case errors.Is(err, ledger.ErrCursor), ctx.Err() != nil:
		return page, err
	case err != nil:
		page.Incomplete = "only the last calls are here: " + err.Error()
		for _, row := range d.router.InFlight().Ended(maxInFlight) {
			if c := accounting.CallOf(&row); q.Selects(c) && len(page.Calls) < q.Limit {
				page.Calls = append(page.Calls, c)
			}
		}
	}
	for _, c := range running { // a call is recorded shortly before it ends
		if !slices.ContainsFunc(page.Calls, func(ended control.Call) bool { return ended.ID == c.ID }) {
			page.InFlight = append(page.InFlight, c)
		}
	}
	return page, nil
}

func (d *Daemon) callsInFlight(q control.CallsQuery) (list []control.Call) {
	for _, s := range d.router.InFlight().Snapshot() {
		if c := callInFlight(&s); q.Selects(c) && len(list) < maxInFlight {
			list = append(list, c)
		}
	}
	return list
}

func callInFlight(s *inflight.Snapshot) control.Call {
	c := control.Call{
		ID: s.ID().String(), Time: s.Began.UTC().Truncate(time.Millisecond), Request: s.Request, Path: s.Path, Key: s.Key, Route: s.Route, Model: s.Model,
		Backend: s.Backend, BackendModel: s.BackendModel, Reason: string(s.Reason), Phase: string(s.Phase), Place: s.Place,
		Stream: s.Stream, MS: time.Since(s.Began).Milliseconds(), Cost: (*control.USD)(s.Cost), Attempts: accounting.AttemptsOf(s.Attempts),
	}
	if s.FirstAnswer > 0 {
		c.FirstMS, c.Completion = new(s.FirstAnswer.Milliseconds()), &s.Tokens
	}
	return c
}

// Call implements control.Daemon.
func (d *Daemon) Call(ctx context.Context, id string) (call control.Call, err error) {
	own, err := ledger.ParseCallID(id)
	if err != nil {
		return call, noCall(id)
	}
	for _, s := range d.router.InFlight().Snapshot() {
		if s.ID() == own {
			return callInFlight(&s), nil
		}
	}
	for _, row := range d.router.InFlight().Ended(maxInFlight) {
		if row.CallID() == own {
			return accounting.CallOf(&row), nil
		}
	}
	call, found, err := d.accounting.Call(ctx, own)
	if err == nil && !found {
		err = noCall(id)
	}
	return call, err
}

// EachCall implements control.Daemon.
func (d *Daemon) EachCall(ctx context.Context, q control.CallsQuery, emit func(control.Call) error) error {
	return d.accounting.EachCall(ctx, q, emit)
}

// FollowCalls implements control.Daemon.
func (d *Daemon) FollowCalls(ctx context.Context, q control.CallsQuery, begin func() error, emit func(control.CallEvent) error) error {
	follower := d.router.InFlight().Follow()
	defer follower.Close()
	if err := begin(); err != nil {
		return err
	}
	known := map[string]bool{} // their begin may be an event, too
	for _, c := range d.callsInFlight(q) {
		known[c.ID] = true
		if err := emit(control.CallEvent{Event: control.CallInFlight, Call: c}); err != nil {
			return err
		}
	}
	for lost := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-d.serverContext.Done(): // llmsup has stopped
			return nil
		case e := <-follower.Events:
			lost += e.Lost
			next := control.CallEvent{Event: control.CallBegan, Call: callInFlight(&e.Call)}
			if e.Ended != nil {
				next = control.CallEvent{Event: control.CallEnded, Call: accounting.CallOf(e.Ended)}
			}
			if next.Lost = lost; !selectsEvent(q, &next) || e.Ended == nil && known[next.Call.ID] {
				continue
			}
			delete(known, next.Call.ID)
			lost = 0
			if err := emit(next); err != nil {
				return err
			}
		}
	}
}

// selectsEvent reports whether a query selects an event. Backend and reason of a call that has
// begun are not known yet.
func selectsEvent(q control.CallsQuery, e *control.CallEvent) bool {
	if e.Event == control.CallBegan && (q.Backend != "" || q.Reason != "" || q.Status != "") {
		return false
	}
	return q.Selects(e.Call)
}

// CancelCall implements control.Daemon.
func (d *Daemon) CancelCall(id, by string) (calls []control.Call, err error) {
	for _, s := range d.router.InFlight().Cancel(id) {
		d.log.Info().Str("request_id", s.Request).Str("id", s.ID().String()).Str("by", by).Msg("an operator cancels a call")
		calls = append(calls, callInFlight(&s))
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("%w %q in flight; llmsup calls lists them", control.ErrNoCall, id)
	}
	return calls, nil
}

func noCall(id string) error {
	return fmt.Errorf("%w %q; llmsup calls lists the last ones", control.ErrNoCall, id)
}
