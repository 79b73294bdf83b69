package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/supervisor"
)

// drainRecord is which servers are drained, and the commands that follow a drain or
// its end. The daemon's changing guards it.
type drainRecord struct {
	maintenance.Record
	shown      atomic.Pointer[maintenance.Record] // the same, for readers that must not wait
	timer      *time.Timer                        // until the next drain ends by itself; nil = none does
	operations []*operation                       // some may be over
}

func (r *drainRecord) set(next maintenance.Record) {
	r.Record = next
	r.shown.Store(&next)
}

// snapshot is the record for a reader that does not hold changing.
func (r *drainRecord) snapshot() maintenance.Record {
	if shown := r.shown.Load(); shown != nil {
		return *shown
	}
	return maintenance.Record{}
}

var errStopping = errors.New("llmsup is stopping")

// Drain implements control.Source: it takes servers out of use, and stops them when
// their calls have ended.
func (d *Daemon) Drain(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
	o, err := d.drain(how)
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

// drain begins a drain. For servers that are drained already it changes what the
// request says otherwise.
func (d *Daemon) drain(how control.DrainRequest) (*operation, error) {
	<-d.begun
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return nil, errStopping
	}
	servers, err := d.find(how.Servers)
	if err != nil {
		return nil, err
	}
	request := maintenance.Request{
		For: time.Duration(how.For), Timeout: time.Duration(how.Timeout), KeepServer: how.KeepServer,
	}
	if len(how.Servers) > 0 {
		request.Servers = namesOf(servers)
	}
	next := d.drains.Drain(request, d.configured(), time.Now())
	if routes := d.newlyStranded(next); len(routes) > 0 && !how.Yes {
		return nil, control.StrandedError{Routes: routes}
	}
	o := newOperation(drainOperation, servers, request.Servers != nil)
	warning := ""
	if err := next.Save(d.setup.Config.StateDir); err != nil {
		warning = fmt.Sprintf("the drain can't be remembered, so a restart of llmsup would end it: %v", err)
		d.log.Error().Err(err).Msg("the drain can't be remembered over a restart")
	}
	d.drains.set(next)
	queued := map[string]int{}
	for _, s := range servers {
		queued[s.name] = d.router.Traffic(s.name).Queued
		drain, _ := next.Of(s.name)
		s.server.Drain(drain.Hold())
		event := d.log.Warn().Str("server", s.name).Bool("keep_server", drain.KeepServer)
		if !drain.Until.IsZero() {
			event.Time("until", drain.Until)
		}
		event.Msg("an operator drains the server")
	}
	d.scheduleResume()
	d.cancel(resumeOperation, servers, func(names string) string {
		switch {
		case names == "":
			return "the servers are drained again"
		case strings.Contains(names, " "):
			return names + " are drained again"
		}
		return names + " is drained again"
	})
	d.begin(o)
	d.group.Go(func() { d.watchDrain(o, queued, warning) })
	return o, nil
}

// newlyStranded returns the routes that have a backend while the servers of the
// present record are drained, and none with those of the next one.
func (d *Daemon) newlyStranded(next maintenance.Record) []string {
	drained := func(r maintenance.Record) (names []string) {
		for _, name := range d.configured() {
			if _, drained := r.Of(name); drained {
				names = append(names, name)
			}
		}
		return names
	}
	before := d.router.Stranded(drained(d.drains.Record))
	return slices.DeleteFunc(d.router.Stranded(drained(next)), func(route string) bool { return slices.Contains(before, route) })
}

// Resume implements control.Source: it takes servers into use again, whether they are
// drained already or about to be.
func (d *Daemon) Resume(ctx context.Context, names []string, emit func(control.Step) error) error {
	<-d.begun
	o, err := d.resumeNamed(names)
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

func (d *Daemon) resumeNamed(names []string) (*operation, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if d.stopping {
		return nil, errStopping
	}
	servers, err := d.find(names)
	if err != nil {
		return nil, err
	}
	next := maintenance.Record{}
	if len(names) > 0 {
		next = d.drains.Resume(namesOf(servers))
	}
	o := newOperation(resumeOperation, servers, len(names) > 0)
	d.resume(o, next, "llmsup resume")
	return o, nil
}

// resume takes an operation's servers into use again, which leaves the drains of next.
// The caller holds changing.
func (d *Daemon) resume(o *operation, next maintenance.Record, why string) {
	if !next.Same(d.drains.Record) {
		if err := next.Save(d.setup.Config.StateDir); err != nil {
			warning := fmt.Sprintf("the drain is remembered in %s, and can't be removed from there, so a restart of llmsup would drain again: %v", maintenance.Path(d.setup.Config.StateDir), err)
			d.log.Error().Msg(warning)
			o.tell(control.Step{Step: control.StepWarning, Text: warning})
		}
		d.log.Info().Strs("servers", namesOf(o.servers)).Str("why", why).Msg("the servers are taken into use again")
	}
	d.drains.set(next)
	d.cancel(drainOperation, o.servers, func(names string) string {
		if names != "" {
			names = " of " + names
		}
		return "the drain" + names + " was taken back (" + why + ")"
	})
	before := map[string]*supervisor.Snapshot{}
	for _, s := range o.servers {
		before[s.name] = s.server.Snapshot()
		s.server.Resume()
	}
	d.scheduleResume()
	d.releaseDriver()
	d.begin(o)
	d.group.Go(func() { d.watchReturns(o, before) })
}

// scheduleResume has the next drain end by itself when its time is over. The caller
// holds changing.
func (d *Daemon) scheduleResume() {
	if d.drains.timer != nil {
		d.drains.timer.Stop()
		d.drains.timer = nil
	}
	end := d.drains.NextEnd()
	if end.IsZero() || d.stopping {
		return
	}
	// Checked each minute: the clock may be set, and a machine may sleep.
	d.drains.timer = time.AfterFunc(min(time.Until(end), time.Minute), func() {
		d.changing.Lock()
		defer d.changing.Unlock()
		if d.stopping {
			return
		}
		next, ended := d.drains.Expire(time.Now())
		servers := slices.DeleteFunc(slices.Clone(d.servers()), func(s *served) bool { return !slices.Contains(ended, s.name) })
		if len(servers) == 0 {
			d.changeRecord(next)
			return
		}
		d.resume(newOperation(resumeOperation, servers, true), next, "its time is over")
	})
}

// restoreDrain finds out which servers were drained when llmsup ended, and still are.
func (d *Daemon) restoreDrain() {
	configured := sortedKeys(d.setup.Config.Servers)
	record, warning := maintenance.Restore(d.setup.Config.StateDir, configured, time.Now())
	d.drains.set(record)
	if warning != "" {
		d.log.Error().Msg(warning)
	}
	for _, name := range configured {
		if drain, drained := record.Of(name); drained {
			d.log.Warn().Str("server", name).Time("since", drain.Since).Msg("the server is still drained; llmsup resume takes it into use again")
		}
	}
}

// changeRecord remembers drains that have changed without a command, by a reload or
// because their time is over. The caller holds changing.
func (d *Daemon) changeRecord(next maintenance.Record) {
	if !next.Same(d.drains.Record) {
		if err := next.Save(d.setup.Config.StateDir); err != nil {
			d.log.Warn().Err(err).Msg("the present drains can't be remembered over a restart")
		}
	}
	d.drains.set(next)
	d.scheduleResume()
}

// releaseDriver lets the GPU's driver go while every server is drained, stopped, and
// its VRAM free. The caller holds changing.
func (d *Daemon) releaseDriver() {
	release := !d.drains.Empty()
	for _, s := range d.servers() {
		drain, drained := d.drains.Of(s.name)
		now := s.server.Snapshot()
		stopped := now.PID == 0 && (now.State == supervisor.Drained || now.State == supervisor.Stopped)
		release = release && drained && !drain.KeepServer && stopped && s.tenant.Outstanding() == ""
	}
	d.monitor.Rest(release)
}

// find returns the servers of some names, sorted; without names it returns all, those
// that a reload has removed and that have not ended included.
func (d *Daemon) find(names []string) ([]*served, error) {
	if len(names) == 0 {
		return d.servers(), nil
	}
	known := d.configured()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, unknownServer(name, known)
		}
	}
	return slices.DeleteFunc(slices.Clone(d.servers()), func(s *served) bool { return !slices.Contains(names, s.name) }), nil
}

func unknownServer(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("there is no server %q, and the configuration has none", name)
	}
	return fmt.Errorf("there is no server %q; the configuration has %s", name, strings.Join(known, ", "))
}

// configured are the names of the servers that the configuration has, sorted.
func (d *Daemon) configured() []string {
	return namesOf(slices.DeleteFunc(slices.Clone(d.servers()), func(s *served) bool { return s.leaving }))
}

func namesOf(servers []*served) []string {
	names := make([]string, 0, len(servers))
	for _, s := range servers {
		names = append(names, s.name)
	}
	return names
}
