package supervisor

import (
	"context"
	"fmt"
	"time"
)

// DrainOptions is an operator's request to drain a server.
type DrainOptions struct {
	Until  time.Time // its calls may run until then, and are broken off after that; zero = for ten minutes
	Ends   time.Time // when the drain ends by itself, for Snapshot.DrainEnds; zero = with Resume
	Keep   bool      // a process that is ready stays, and with it what it holds of the VRAM
	Reason string    // one line for a person
}

// Drain takes the server out of use until Resume: it gets no new calls from now
// on, and is stopped when the ones it has have ended. It stays so whatever becomes
// of its process. Another Drain before that changes what is wanted.
func (s *Server) Drain(h DrainOptions) {
	s.orders.mu.Lock()
	s.orders.hold = &h
	s.orders.mu.Unlock()
	notify(s.orders.came)
}

// Resume takes Drain back. A process that still runs is used again when it has
// answered a completion; else there is a new one.
func (s *Server) Resume() {
	s.orders.mu.Lock()
	s.orders.hold = nil
	s.orders.mu.Unlock()
	notify(s.orders.came)
}

// Verify asks a server that is in use for a completion, and returns why there was
// none.
func (s *Server) Verify(ctx context.Context) error {
	now := s.Snapshot()
	if !now.State.Alive() {
		return fmt.Errorf("it is %s", now.State)
	}
	return s.engine(now.Endpoint).complete(ctx)
}

// held returns what an operator wants who has taken the server out of use; nil =
// it is in use.
func (o *orders) held() *DrainOptions {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hold
}

// outOfUse says whether the server is to have no process for now.
func (s *Server) outOfUse() bool { return s.orders.held() != nil && !s.orders.now().retire }

// stayDrained waits, without a process, until the server is to be used again, is
// no longer wanted at all, or ctx ends.
func (s *Server) stayDrained(ctx context.Context) {
	for {
		h := s.orders.held()
		if h == nil || !s.outOfUse() {
			s.past = history{}
			return
		}
		if !mayFollow(s.snap.Load().State, Drained) {
			s.enter(Draining, h.Reason, noProcess)
		}
		s.enter(Drained, h.Reason, noProcess)
		if !s.awaitOrder(ctx) {
			return
		}
	}
}

// outlook is what watch knows of a process that is to be taken out of use or
// replaced. Its zero value is one that works.
type outlook struct {
	calls chan struct{}      // closed when its calls have ended, or have had their time
	quit  context.CancelFunc // ends the wait for that
	kept  bool               // it is drained, and stays
	proof chan error         // of a kept one that is to be used again
}

// works says whether the process may be given calls.
func (o *outlook) works() bool { return o.calls == nil && !o.kept }

// heed brings what a ready process is about to do into line with what is wanted.
// It returns an end if it is to end at once. spawn runs something for as long as
// the process is watched.
func (s *Server) heed(ctx context.Context, o *outlook, ask engine, spawn func(func())) (verdict *Exit) {
	order, hold := s.orders.now(), s.orders.held()
	wanted := order.replace || hold != nil
	switch {
	case o.kept && (order.replace || hold != nil && !hold.Keep):
		return s.relieved(order, hold)
	case o.kept && hold != nil:
		s.enter(Drained, hold.Reason, nil)
	case o.kept && o.proof == nil:
		proof := make(chan error, 1)
		o.proof = proof
		s.enter(Drained, "taken into use again as soon as a completion has come back", nil)
		spawn(func() {
			canary, cancel := context.WithTimeout(ctx, s.spec.StallTimeout)
			defer cancel()
			proof <- ask.complete(canary)
		})
	case o.calls != nil && !wanted:
		o.quit()
		*o = outlook{}
		s.enterAlive(nil)
	case wanted && !o.kept:
		words := order.words()
		if hold != nil {
			words = hold.Reason
		}
		s.enter(Draining, words+"; its calls end first", nil)
		if o.calls == nil {
			waiting, quit := context.WithCancel(ctx)
			calls := make(chan struct{})
			o.calls, o.quit = calls, quit
			spawn(func() { s.drain(waiting, calls) })
		}
	}
	return nil
}

// rid says what follows when a process has no calls left: nil where it stays.
func (s *Server) rid(o *outlook) (verdict *Exit) {
	order, hold := s.orders.now(), s.orders.held()
	if hold == nil || !hold.Keep || order.replace {
		return s.relieved(order, hold)
	}
	*o = outlook{kept: true}
	// Those that have had their time, and no answer yet, move on.
	gone := s.gone
	s.gone = make(chan struct{})
	s.enter(Drained, hold.Reason, func(n *Snapshot) { n.Exited = s.gone })
	close(gone)
	return nil
}

func (s *Server) relieved(order order, hold *DrainOptions) *Exit {
	if hold != nil && !order.replace {
		return &Exit{Class: Replaced, Cause: hold.Reason}
	}
	return &Exit{Class: Replaced, Cause: order.words()}
}

const (
	drainTimeout = 10 * time.Minute
	drainLook    = 50 * time.Millisecond
)

// drain closes done when the server has no call any more, or has had some for as
// long as it may. Twice none is none: a call may be on its way from the router,
// which chose the server just before it began to drain.
func (s *Server) drain(ctx context.Context, done chan<- struct{}) {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	began := time.Now()
	for quiet := 0; quiet < 2 && time.Now().Before(s.orders.patience(began)); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		quiet++
		if s.spec.Traffic().Calls > 0 {
			quiet = 0
		}
	}
	close(done)
}

// patience is until when calls may run that began to be waited for at a time.
func (o *orders) patience(began time.Time) time.Time {
	if h := o.held(); h != nil && !h.Until.IsZero() {
		return h.Until
	}
	return began.Add(drainTimeout)
}
