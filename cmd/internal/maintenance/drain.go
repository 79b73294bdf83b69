package maintenance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Drain takes servers out of use, and stops them when their calls have ended. It emits
// each step. The drain continues if emit returns an error or ctx ends.
func (m *Manager) Drain(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
	o, err := m.drain(how)
	if err != nil {
		return err
	}
	return o.follow(ctx, emit)
}

// drain begins a drain. For servers that are drained already, it changes the settings of
// the request.
func (m *Manager) drain(how control.DrainRequest) (*operation, error) {
	m.opts.Lock.Lock()
	defer m.opts.Lock.Unlock()
	if m.stopping {
		return nil, ErrStopping
	}
	servers, err := m.servers.Find(how.Servers)
	if err != nil {
		return nil, err
	}
	request := Request{For: time.Duration(how.For), Timeout: time.Duration(how.Timeout), KeepServer: how.KeepServer}
	if len(how.Servers) > 0 {
		request.Servers = namesOf(servers)
	}
	next := m.Record().Drain(request, m.configured(), time.Now())
	if routes := m.newlyWithoutFallback(next); len(routes) > 0 && !how.Yes {
		return nil, control.NoFallbackError{Routes: routes}
	}
	o := newOperation(drainCommand, servers, request.Servers != nil)
	warning := ""
	if err := next.Save(m.opts.StateDir); err != nil {
		warning = fmt.Sprintf("cannot save the drain, so a restart of llmsup would end it: %v", err)
		m.log.Error().Err(err).Msg("cannot save the drain; it will be lost if llmsup restarts")
	}
	m.record.Store(&next)
	queued := map[string]int{}
	for _, s := range servers {
		queued[s.Name] = s.Load().Queued
		drain, _ := next.Of(s.Name)
		s.Process.Drain(drain.Options())
		event := m.log.Warn().Str("server", s.Name).Bool("keep_server", drain.KeepServer)
		if !drain.Until.IsZero() {
			event.Time("until", drain.Until)
		}
		event.Msg("an operator drains the server")
	}
	m.scheduleResume()
	m.cancel(resumeCommand, namesOf(servers), func(names string) string {
		switch {
		case names == "":
			return "the servers are drained again"
		case strings.Contains(names, " "):
			return names + " are drained again"
		}
		return names + " is drained again"
	})
	m.begin(o)
	m.group.Go(func() { m.watchDrain(o, queued, warning) })
	return o, nil
}

// newlyWithoutFallback returns the routes that have a backend now, and none once the
// servers of the next record are drained.
func (m *Manager) newlyWithoutFallback(next Record) []string {
	drained := func(r Record) []string {
		return slices.DeleteFunc(m.configured(), func(name string) bool { _, drained := r.Of(name); return !drained })
	}
	before := m.servers.RoutesWithoutFallback(drained(m.Record()))
	return slices.DeleteFunc(m.servers.RoutesWithoutFallback(drained(next)), func(route string) bool { return slices.Contains(before, route) })
}
