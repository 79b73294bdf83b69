package daemon

import (
	"cmp"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/supervisor"
)

// served is a llama-server that the daemon runs. It is never changed: a reload
// puts another one in its place, about the same server.
type served struct {
	name    string
	server  *supervisor.Server
	command command
	leaving bool          // it is no longer in the configuration, and ends when its calls have
	ended   chan struct{} // closed when it has
}

// command is all that a server's process follows from: when it changes, so has
// the process to.
type command struct {
	entry   config.Server
	binary  string
	devices string
}

// change is what a Setup makes of the present fleet.
type change struct {
	fleet    []*served // afterwards, sorted by name
	added    []*served
	replaced []*served // with another command
	removed  []*served
	stayed   []*served
}

// plan works out what a Setup changes. Nothing is started, stopped or told, and
// what is in the present fleet stays as it is.
func (d *Daemon) plan(setup Setup) (change, error) {
	var c change
	present := map[string]*served{}
	for _, s := range d.running() {
		present[s.name] = s
	}
	for _, name := range sortedKeys(setup.Config.Servers) {
		wanted := command{setup.Config.Servers[name], setup.Binary, setup.Config.GPU}
		s := present[name]
		delete(present, name)
		switch {
		case s == nil:
			s = d.newServed(name, wanted, setup.Config)
			c.added = append(c.added, s)
		case s.leaving:
			return change{}, fmt.Errorf("server %s was taken out, and its last calls are still running; try again when llmsup status no longer lists it", name)
		case reflect.DeepEqual(s.command, wanted):
			c.stayed = append(c.stayed, s)
		default:
			s = &served{s.name, s.server, wanted, false, s.ended}
			c.replaced = append(c.replaced, s)
		}
		c.fleet = append(c.fleet, s)
	}
	for _, name := range sortedKeys(present) {
		s := present[name]
		if !s.leaving {
			s = &served{s.name, s.server, s.command, true, s.ended}
			c.removed = append(c.removed, s)
		}
		c.fleet = append(c.fleet, s) // until it has ended
	}
	slices.SortFunc(c.fleet, func(a, b *served) int { return cmp.Compare(a.name, b.name) })
	return c, nil
}

func (d *Daemon) newServed(name string, c command, cfg *config.Config) *served {
	spec := d.spec(name, c, cfg)
	return &served{name: name, server: supervisor.New(spec, d.log, d.opts.Hurry), command: c, ended: make(chan struct{})}
}

func (d *Daemon) spec(name string, c command, cfg *config.Config) supervisor.Spec {
	return supervisor.Spec{
		Name: name, Binary: c.binary, Model: c.entry.Model, CtxSize: c.entry.CtxSize, NGPULayers: c.entry.NGPULayers, Args: c.entry.Args,
		Dir: filepath.Join(d.serversDir(), name), Devices: c.devices, Secrets: cfg.KeyVariables(),
		LoadTimeout: c.entry.LoadTimeout, StallTimeout: c.entry.StallTimeout,
		// Asked only once the server runs, and the router is there by then.
		Traffic: func() supervisor.Traffic { return supervisor.Traffic(d.router.Traffic(name)) },
	}
}

// start runs a server until it ends or the daemon does. The caller holds changing.
func (d *Daemon) start(s *served) {
	ctx := d.serving
	d.group.Go(func() {
		defer close(s.ended)
		s.server.Run(ctx)
	})
}

// running are the servers of now, sorted by name. One that was taken out of the
// configuration is among them until it has ended.
func (d *Daemon) running() []*served {
	fleet := d.fleet.Load()
	if fleet == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(*fleet), func(s *served) bool {
		select {
		case <-s.ended:
			return s.leaving
		default:
			return false
		}
	})
}
