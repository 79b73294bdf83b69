package backend

import (
	"cmp"
	"context"
	"time"

	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/wire"
)

// accepts reports whether a server in this state is given a call. A degraded server is
// given the calls that have no alternative.
func (s LocalState) accepts(other Alternative) bool {
	return s.Reason == "" || s.Alive && !other.Allows(s.Reason)
}

// bypassed reports whether a call moves on at once instead of waiting for a server in
// this state.
func (s LocalState) bypassed(other Alternative) bool {
	return !s.accepts(other) && (other.Allows(s.Reason) || !s.Returning)
}

// capacity is what the slot queue needs to know of a state.
func (s LocalState) capacity() capacity {
	return capacity{open: s.Reason == "" || s.Alive, slots: s.Slots}
}

// Admit implements Backend. It waits until the server accepts the call and has its slots
// free, for as long as ctx lasts. A call that has an alternative moves there rather than
// wait for a server that accepts no calls, or in a queue whose estimated wait is longer
// than the attempt's timeout.
func (b *Server) Admit(ctx context.Context, a *Attempt) (*Lease, *Failure) {
	for {
		lease, failed := b.awaitSlots(ctx, a)
		if failed != nil {
			return nil, failed
		}
		// The call is counted before the state is read: once a drain counts zero
		// calls, no further call can be admitted.
		now := b.local.State()
		if now.accepts(a.Alternative) {
			lease.Gone, lease.Form = now.Gone, b.form(a)
			return lease, nil
		}
		lease.Release(Errored)
		if now.bypassed(a.Alternative) {
			return nil, now.failure(now.Detail)
		}
	}
}

// awaitSlots waits in the queue until the server is there and has slots free.
func (b *Server) awaitSlots(ctx context.Context, a *Attempt) (*Lease, *Failure) {
	now := b.local.State()
	switch accepts := now.accepts(a.Alternative); {
	case a.Request.Server && accepts:
		return newLease(&b.Load, nil), nil
	case a.Request.Server: // it neither waits for the model nor has it loaded
		return nil, now.failure(now.Detail)
	}
	slots := slotsFor(a.Request, b.Engine().Slots)
	switch {
	case now.accepts(a.Alternative) && (now.Slots == 0 || slots == 0):
		return NewLease(&b.Load, nil), nil
	case now.bypassed(a.Alternative):
		if now.Reason == Unloaded {
			b.local.AddDemand(false)
		}
		return nil, now.failure(now.Detail)
	}
	limit := a.MaxWait.Or(a.Timeout)
	if a.MaxWait.Limited && b.queue.expectedWait() > limit { // unlike enqueue, it assumes how long calls take if that is unknown
		limit = 0
	}
	w, wait, ok := b.queue.enqueue(slots, a.Alternative.Allows(Saturated), limit)
	if a.Wait.Place == 0 {
		a.Wait.Place = w.place
	}
	switch {
	case !ok && !now.accepts(a.Alternative):
		failed := now.failure(now.Detail + ", and its queue is full")
		if failed.RetryAfter += int(wait / time.Second); !w.full {
			failed.Detail, failed.MayWait, failed.ExpectedWait = now.Detail+", and its queue is long", true, now.LoadsIn+wait
		}
		return nil, failed
	case !ok:
		return nil, b.saturated(wait, w.full)
	}
	if w.place == 0 {
		return b.leaseSlots(b.local.State().Gone, w.slots), nil
	}
	if now.Reason == Unloaded {
		b.local.AddDemand(true)
	}
	defer func() { a.Wait.Time += time.Since(w.since) }()
	return b.awaitGrant(ctx, a, w, now)
}

// saturated returns the failure of a call that does not wait here; wait is for how long it would, 0 =
// unknown.
func (b *Server) saturated(wait time.Duration, full bool) *Failure {
	failed := &Failure{
		Reason: Saturated, Detail: "has all slots busy and its queue full", Next: Retry,
		RetryAfter: max(int(wait.Round(time.Second)/time.Second), 1),
	}
	if !full {
		failed.Detail, failed.MayWait, failed.ExpectedWait = "has all slots busy", true, cmp.Or(wait, b.queue.expectedWait(), pick.AssumedService)
	}
	return failed
}

// awaitGrant waits until a call in the queue has its slots, or has waited for a slot for as long as it
// may. now is the state in which it began to wait.
func (b *Server) awaitGrant(ctx context.Context, a *Attempt, w *waiter, now LocalState) (*Lease, *Failure) {
	changes, stop := a.Alternative.changes()
	defer stop()
	model := modelWait{attempt: a}
	defer model.end()
	var late <-chan time.Time
	for began := true; ; began = false {
		forModel := !now.accepts(a.Alternative)
		if !forModel && late == nil && a.MaxWait.Limited && a.Alternative.Allows(Saturated) {
			timer := time.NewTimer(a.MaxWait.Limit)
			defer timer.Stop()
			late = timer.C
		}
		if a.Progress != nil && (began || forModel == model.since.IsZero()) {
			a.Progress.Wait(forModel, func() int { return b.queue.placeOf(w) })
		}
		model.update(forModel)
		select {
		case <-model.due():
			if ctx.Err() == nil { // on a busy machine both may be late
				model.notify()
			}
		case <-w.granted:
			return b.leaseSlots(b.local.State().Gone, w.slots), nil
		case <-late:
			b.queue.cancel(w)
			return nil, b.saturated(0, false)
		case <-ctx.Done():
			b.queue.cancel(w)
			return nil, b.notAdmitted(a, "and accepted no call within "+a.Timeout.String(), "had no free slot within "+a.Timeout.String())
		case <-b.stopping:
			b.queue.cancel(w)
			return nil, b.notAdmitted(a, "and llmsup is stopping", "has all slots busy, and llmsup is stopping")
		case <-changes:
			if ctx.Err() != nil {
				continue
			}
			if now = b.local.State(); now.bypassed(a.Alternative) {
				b.queue.cancel(w)
				return nil, now.failure(now.Detail + ", and accepted no call within the time that calls wait for their model")
			}
			b.queue.update() // the model may have become ready just now
		case <-now.Changed:
			if now = b.local.State(); now.bypassed(a.Alternative) {
				b.queue.cancel(w)
				return nil, now.failure(now.Detail)
			}
			b.queue.update()
		}
	}
}

// modelWait measures how long a call waits for its model, and notifies its client of the wait.
type modelWait struct {
	attempt *Attempt
	since   time.Time   // when the wait began; zero = the call does not wait for its model
	timer   *time.Timer // until the client is notified next; nil = it does not wait, or its client is not notified
}

// update begins or ends the wait.
func (m *modelWait) update(waits bool) {
	switch {
	case !waits:
		m.end()
	case m.since.IsZero():
		m.since = time.Now()
		if m.attempt.KeepAlive.Notify != nil {
			m.timer = time.NewTimer(m.attempt.KeepAlive.After)
		}
	}
}

func (m *modelWait) end() {
	if m.since.IsZero() {
		return
	}
	m.attempt.Wait.ForModel += time.Since(m.since)
	m.since = time.Time{}
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
}

// due returns a channel that receives when the client has to be notified.
func (m *modelWait) due() <-chan time.Time {
	if m.timer == nil {
		return nil
	}
	return m.timer.C
}

func (m *modelWait) notify() {
	m.attempt.KeepAlive.Notify(m.attempt.Wait.Place)
	m.timer.Reset(KeepAliveInterval)
}

// changes returns a channel that receives when the call no longer waits for its model.
func (a Alternative) changes() (changes <-chan time.Time, stop func() bool) {
	if a.ModelUntil.IsZero() {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(time.Until(a.ModelUntil))
	return timer.C, timer.Stop
}

// notAdmitted returns the failure of a call that no longer waits: closed is the message if
// the server accepts no calls, busy if its slots are busy.
func (b *Server) notAdmitted(a *Attempt, closed, busy string) *Failure {
	if now := b.local.State(); !now.accepts(a.Alternative) {
		failed := now.failure(now.Detail + ", " + closed)
		failed.Next = NoRetry // it has waited
		return failed
	}
	return &Failure{Reason: Saturated, Detail: busy, RetryAfter: wire.RetrySoon}
}

// failure returns the failure of a call that a server in this state does not accept.
func (s LocalState) failure(detail string) *Failure {
	now := time.Now()
	f := &Failure{Reason: s.Reason, Detail: detail, RetryAfter: s.retryAfter(now), NeedsOperator: s.needsOperator(now)}
	if s.Returning || s.Alive {
		f.Next = Retry
	}
	return f
}

// RetryLater is the Retry-After for a server that only an operator brings back, in
// seconds.
const RetryLater = 60

// retryAfter returns the number of seconds after which the client should retry.
func (s LocalState) retryAfter(now time.Time) int {
	switch left := s.ReadyAt.Sub(now); {
	case left > 0:
		return int((left + time.Second - 1) / time.Second)
	case s.needsOperator(now):
		return RetryLater
	}
	return wire.RetrySoon
}

// needsOperator reports whether a server accepts calls again only after an operator has
// acted: it has failed, is drained without an end, or its model can never be loaded.
func (s LocalState) needsOperator(now time.Time) bool {
	switch s.Reason {
	case Failed, Drained, Draining, Unloaded:
		return !s.Returning && !s.ReadyAt.After(now)
	default:
		return false
	}
}

// leaseSlots returns a lease on slots of the process whose exit closes gone.
func (b *Server) leaseSlots(gone <-chan struct{}, slots int) *Lease {
	began := time.Now()
	lease := NewLease(&b.Load, func(how Ending) {
		switch how {
		case Aborted:
			b.orphaned.add(b, gone, slots)
			return
		case Completed:
			b.Served(time.Since(began))
		case Errored: // the time to an error is no measure of the service time
		}
		b.queue.release(slots)
	})
	lease.began, lease.prompts = began, &b.prompts
	return lease
}
