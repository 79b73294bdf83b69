package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// drainTimeout is how long calls may run on when nobody says otherwise.
const drainTimeout = 10 * time.Minute

// keeper knows whether the servers are drained. What it knows is changed under the
// daemon's changing alone.
type keeper struct {
	held  *held      // nil = they are in use
	calls time.Time  // until when those that run may
	drain *operation // the newest one; nil = there was none
	back  *operation // the newest way back into use; nil = there was none
	alarm *time.Timer
	shown atomic.Pointer[held] // what held is, for those who must not wait
}

func (k *keeper) set(h *held) {
	k.held = h
	k.shown.Store(h)
}

// hold is what a drain wants of a server.
func (k *keeper) hold() supervisor.Hold {
	return supervisor.Hold{Until: k.calls, Ends: k.held.Until, Keep: k.held.Keep, Reason: k.held.words()}
}

// Drain implements control.Source: it takes all servers out of use, and stops them
// when the calls that they have are over.
func (d *Daemon) Drain(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
	o, err := d.drain(how)
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

// drain begins a drain, or joins the one that there is, and changes that as far as
// the second request says something else.
func (d *Daemon) drain(how control.DrainRequest) (*operation, error) {
	<-d.begun
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return nil, errStopping
	}
	if routes := d.router.Stranded(); len(routes) > 0 && !how.Yes && d.keeper.held == nil {
		return nil, control.StrandedError{Routes: routes}
	}
	joins := d.keeper.held != nil && d.keeper.drain != nil && !d.keeper.drain.isOver()
	next := held{Since: time.Now(), Keep: how.KeepServer}
	if d.keeper.held != nil {
		next.Since, next.Until, next.Keep = d.keeper.held.Since, d.keeper.held.Until, d.keeper.held.Keep && how.KeepServer
	}
	if how.For > 0 {
		next.Until = time.Now().Add(time.Duration(how.For)).Round(0) // by the clock on the wall: a machine may sleep
	}
	goesFurther := d.keeper.held != nil && d.keeper.held.Keep && !next.Keep
	if d.keeper.held == nil || how.Timeout > 0 {
		timeout := time.Duration(how.Timeout)
		if timeout == 0 {
			timeout = drainTimeout
		}
		d.keeper.calls = time.Now().Add(timeout)
	}
	warning := ""
	if err := next.keep(d.setup.Config.StateDir); err != nil {
		warning = fmt.Sprintf("the drain can't be remembered, so a restart of llmsup would end it: %v", err)
		d.log.Error().Err(err).Msg("the drain can't be remembered over a restart")
	}
	d.keeper.set(&next)
	queued := map[string]int{}
	for _, s := range d.servers() {
		queued[s.name] = d.router.Traffic(s.name).Queued
		s.server.Drain(d.keeper.hold())
	}
	d.setAlarm()
	d.keeper.back.end(control.StepCancelled, "the servers are drained again")
	if joins && !goesFurther {
		if warning != "" {
			d.keeper.drain.tell(control.Step{Step: control.StepWarning, Text: warning})
		}
		return d.keeper.drain, nil
	}
	d.keeper.drain.end(control.StepCancelled, "another drain goes further than this one")
	d.log.Warn().Bool("keep_server", next.Keep).Msg("the servers are drained")
	o := newOperation()
	d.keeper.drain = o
	d.group.Go(func() { d.watchDrain(o, queued, warning) })
	return o, nil
}

var errStopping = errors.New("llmsup is stopping")

// Resume implements control.Source: it takes the servers into use again, whether
// they are drained already or about to be.
func (d *Daemon) Resume(ctx context.Context, emit func(control.Step) error) error {
	<-d.begun
	d.changing.Lock()
	o, err := d.resume("llmsup resume")
	d.changing.Unlock()
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

// resume begins the end of a drain. The caller holds changing.
func (d *Daemon) resume(why string) (*operation, error) {
	if d.stopping {
		return nil, errStopping
	}
	if d.keeper.held == nil && d.keeper.back != nil && !d.keeper.back.isOver() {
		return d.keeper.back, nil
	}
	o := newOperation()
	if d.keeper.held != nil {
		if err := forgetHeld(d.setup.Config.StateDir); err != nil {
			warning := fmt.Sprintf("the drain is remembered in %s, and can't be removed from there, so a restart of llmsup would drain again: %v", heldPath(d.setup.Config.StateDir), err)
			d.log.Error().Msg(warning)
			o.tell(control.Step{Step: control.StepWarning, Text: warning})
		}
		d.log.Info().Str("why", why).Msg("the servers are taken into use again")
		d.keeper.set(nil)
		d.keeper.drain.end(control.StepCancelled, "the drain was taken back ("+why+")")
	}
	d.setAlarm()
	d.monitor.Rest(false)
	d.keeper.back = o
	var all sync.WaitGroup
	var failed atomic.Int32
	for _, s := range d.servers() {
		before := s.server.Snapshot()
		s.server.Resume()
		all.Go(func() {
			if !d.watchReturn(o, s, before) {
				failed.Add(1)
			}
		})
	}
	d.group.Go(func() {
		all.Wait()
		if failed.Load() > 0 {
			o.end(control.StepFailed, "not all servers came back; llmsup logs shows what llama-server said")
			return
		}
		o.end(control.StepResumed, "in use again")
	})
	return o, nil
}

// setAlarm has the drain end by itself when its time is over. The caller holds
// changing.
func (d *Daemon) setAlarm() {
	if d.keeper.alarm != nil {
		d.keeper.alarm.Stop()
		d.keeper.alarm = nil
	}
	h := d.keeper.held
	if h == nil || h.Until.IsZero() {
		return
	}
	// Looked at each minute: the clock may be set, and a machine may sleep.
	d.keeper.alarm = time.AfterFunc(min(time.Until(h.Until), time.Minute), func() {
		d.changing.Lock()
		defer d.changing.Unlock()
		switch {
		case d.keeper.held != h || d.stopping:
		case time.Now().Before(h.Until):
			d.setAlarm()
		default:
			if _, err := d.resume("its time is over"); err != nil {
				d.log.Error().Err(err).Msg("the drain could not be ended")
			}
		}
	})
}

// recall finds out whether the servers were drained when llmsup ended, and are
// still to be.
func (d *Daemon) recall() {
	stateDir := d.setup.Config.StateDir
	h := readHeld(stateDir)
	switch {
	case h == nil:
		return
	case !h.Until.IsZero() && !time.Now().Before(h.Until):
		if err := forgetHeld(stateDir); err != nil {
			d.log.Warn().Err(err).Msg("a drain whose time is over could not be forgotten")
		}
		return
	case h.damaged != "":
		d.log.Error().Msg("the servers stay " + h.words())
	default:
		d.log.Warn().Time("since", h.Since).Msg("the servers are still drained; llmsup resume takes them into use again")
	}
	d.keeper.set(h)
}
