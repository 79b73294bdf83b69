package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/ledger"
)

// Lister lists and cancels calls. It implements control.Calls, and is safe for concurrent use.
type Lister struct {
	running    *inflight.Registry
	accounting *accounting.Accounting
	log        zerolog.Logger
	stopped    <-chan struct{}
}

// NewLister returns a Lister. Closing stopped ends what follows calls.
func NewLister(running *inflight.Registry, accounting *accounting.Accounting, log zerolog.Logger, stopped <-chan struct{}) *Lister {
	return &Lister{running, accounting, log, stopped}
}

// maxInFlight limits the calls in flight of a list.
const maxInFlight = 500

// Calls implements control.Calls. Without a ledger that can be read, the calls that have ended
// are the last ones.
func (l *Lister) Calls(ctx context.Context, q control.CallsQuery) (control.CallsPage, error) {
	var running []control.Call
	if q.After == "" {
		running = l.callsInFlight(q)
	}
	page, err := l.accounting.Calls(ctx, q)
	switch {
	case errors.Is(err, ledger.ErrCursor):
		return page, control.ErrAfter
	case ctx.Err() != nil:
		return page, err
	case err != nil:
		page.Incomplete = "only the last calls are here: " + err.Error()
		for _, row := range l.running.Ended(maxInFlight) {
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

func (l *Lister) callsInFlight(q control.CallsQuery) (list []control.Call) {
	for _, s := range l.running.Snapshot() {
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

// Call implements control.Calls.
func (l *Lister) Call(ctx context.Context, id string) (call control.Call, err error) {
	own, err := ledger.ParseCallID(id)
	if err != nil {
		return call, noCall(id)
	}
	for _, s := range l.running.Snapshot() {
		if s.ID() == own {
			return callInFlight(&s), nil
		}
	}
	for _, row := range l.running.Ended(maxInFlight) {
		if row.CallID() == own {
			return accounting.CallOf(&row), nil
		}
	}
	call, found, err := l.accounting.Call(ctx, own)
	if err == nil && !found {
		err = noCall(id)
	}
	return call, err
}

// EachCall implements control.Calls.
func (l *Lister) EachCall(ctx context.Context, q control.CallsQuery, emit func(control.Call) error) error {
	err := l.accounting.EachCall(ctx, q, emit)
	if errors.Is(err, ledger.ErrCursor) {
		return control.ErrAfter
	}
	return err
}

// FollowCalls implements control.Calls.
func (l *Lister) FollowCalls(ctx context.Context, q control.CallsQuery, begin func() error, emit func(control.CallEvent) error) error {
	follower := l.running.Follow()
	defer follower.Close()
	if err := begin(); err != nil {
		return err
	}
	known := map[string]bool{} // their begin may be an event, too
	for _, c := range l.callsInFlight(q) {
		known[c.ID] = true
		if err := emit(control.CallEvent{Event: control.CallInFlight, Call: c}); err != nil {
			return err
		}
	}
	for lost := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-l.stopped: // llmsup has stopped
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

// CancelCall implements control.Calls.
func (l *Lister) CancelCall(id, by string) (calls []control.Call, err error) {
	cancelled, box := l.running.Cancel(id)
	for _, s := range cancelled {
		l.log.Info().Str("request_id", s.Request).Str("id", s.ID().String()).Str("by", by).Msg("an operator cancels a call")
		calls = append(calls, callInFlight(&s))
	}
	switch {
	case len(calls) == 0 && box != "":
		return nil, fmt.Errorf("%w %q of a client in flight here: the box %s has sent it; cancel it there", control.ErrNoCall, id, box)
	case len(calls) == 0:
		return nil, fmt.Errorf("%w %q in flight; llmsup calls lists them", control.ErrNoCall, id)
	}
	return calls, nil
}

func noCall(id string) error {
	return fmt.Errorf("%w %q; llmsup calls lists the last ones", control.ErrNoCall, id)
}
