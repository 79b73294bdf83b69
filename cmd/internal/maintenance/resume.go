package maintenance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// Resume takes servers into use again, at any stage of their drain. It emits each step, as
// Drain does.
func (m *Manager) Resume(ctx context.Context, names []string, emit func(control.Step) error) error {
	o, err := m.resumeNamed(names)
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

func (m *Manager) resumeNamed(names []string) (*operation, error) {
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	if m.stopping {
		return nil, ErrStopping
	}
	servers, err := m.servers.Find(names)
	if err != nil {
		return nil, err
	}
	next := Record{}
	if len(names) > 0 {
		next = m.Record().Resume(namesOf(servers))
	}
	o := newOperation(resumeCommand, servers, len(names) > 0)
	m.resume(o, next, "llmsup resume")
	return o, nil
}

// resume takes an operation's servers into use again, and keeps the drains of next. The
// caller holds the lock.
func (m *Manager) resume(o *operation, next Record, why string) {
	if !next.Same(m.Record()) {
		if err := next.Save(m.opts.StateDir); err != nil {
			warning := fmt.Sprintf("cannot remove the drain from %s, so a restart of llmsup would drain again: %v", Path(m.opts.StateDir), err)
			m.log.Error().Msg(warning)
			o.emit(control.Step{Step: control.StepWarning, Text: warning})
		}
		m.log.Info().Strs("servers", namesOf(o.servers)).Str("why", why).Msg("the servers are taken into use again")
	}
	m.record.Store(&next)
	m.cancel(drainCommand, namesOf(o.servers), func(names string) string {
		if names != "" {
			names = " of " + names
		}
		return "the drain" + names + " was cancelled (" + why + ")"
	})
	before := map[string]*supervisor.Snapshot{}
	for _, s := range o.servers {
		before[s.Name] = s.Process.Snapshot()
		s.Process.Resume()
	}
	m.scheduleResume()
	m.releaseDriver()
	m.begin(o)
	m.group.Go(func() { m.watchReturns(o, before) })
}

// scheduleResume sets the timer for the next drain that ends automatically. The caller
// holds the lock.
func (m *Manager) scheduleResume() {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	end := m.Record().NextEnd()
	if end.IsZero() || m.stopping {
		return
	}
	// At most a minute: the clock may be changed, and a machine may sleep.
	m.timer = time.AfterFunc(min(time.Until(end), time.Minute), func() {
		m.opts.Lock.Lock()
		defer m.opts.Lock.Unlock()
		if m.stopping {
			return
		}
		next, ended := m.Record().Expire(time.Now())
		servers := slices.DeleteFunc(slices.Clone(m.servers.All()), func(s Server) bool { return !slices.Contains(ended, s.Name) })
		if len(servers) == 0 {
			m.changeRecord(next)
			return
		}
		m.resume(newOperation(resumeCommand, servers, true), next, "its time is over")
	})
}
