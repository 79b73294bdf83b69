package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// engine is what all servers run so far.
var engine supervisor.Engine = llamacpp.Engine{}

// managedServer is a llama-server that the daemon runs. It is never changed: a reload
// puts another one in its place, about the same server.
type managedServer struct {
	name     string
	server   *supervisor.Server
	workload *placement.Workload
	launch   launchConfig
	removed  bool // it is no longer in the configuration, and ends when its calls have
	*lifetime
}

// lifetime is the time in which a server's Run runs.
type lifetime struct {
	ctx   context.Context //nolint:containedctx // it is the server's, from the fleet's plan to its removal
	end   context.CancelFunc
	ended chan struct{} // closed when Run has returned

	streams atomic.Bool // its streams have all that its whole answers have
}

// launchConfig is all that a server's process follows from: when it changes, so has
// the process to.
type launchConfig struct {
	entry   config.Server // without what holds for any process
	binary  string
	devices string
}

func launchConfigOf(entry config.Server, setup Setup) launchConfig {
	devices := setup.Config.DevicesOf(entry)
	entry.GPU, entry.LoadTimeout, entry.StallTimeout, entry.Default = "", 0, 0, false
	return launchConfig{entry, setup.Binary, devices}
}

// fleetChange is what a Setup makes of the present fleet.
type fleetChange struct {
	fleet    []*managedServer // afterwards, sorted by name
	added    []*managedServer
	replaced []*managedServer // with another command
	removed  []*managedServer
	stayed   []*managedServer
}

// plan works out what a Setup changes. Nothing is started, stopped or told, and
// what is in the present fleet stays as it is. The caller holds changing.
func (d *Daemon) plan(setup Setup) fleetChange {
	var c fleetChange
	present := map[string]*managedServer{}
	for _, s := range d.servers() {
		present[s.name] = s
	}
	for _, name := range sortedKeys(setup.Config.Servers) {
		entry := setup.Config.Servers[name]
		wanted := launchConfigOf(entry, setup)
		s := present[name]
		delete(present, name)
		switch {
		case s == nil:
			s = d.newServer(name, wanted, setup.Config)
			c.added = append(c.added, s)
		case !s.removed && reflect.DeepEqual(s.launch, wanted):
			c.stayed = append(c.stayed, s)
		default: // one that was taken out and has not ended yet is taken back
			s = &managedServer{s.name, s.server, s.workload, wanted, false, s.lifetime}
			c.replaced = append(c.replaced, s)
		}
		c.fleet = append(c.fleet, s)
	}
	for _, name := range sortedKeys(present) {
		s := present[name]
		if !s.removed {
			s = &managedServer{s.name, s.server, s.workload, s.launch, true, s.lifetime}
			c.removed = append(c.removed, s)
		}
		c.fleet = append(c.fleet, s) // until it has ended
	}
	slices.SortFunc(c.fleet, func(a, b *managedServer) int { return cmp.Compare(a.name, b.name) })
	return c
}

func (d *Daemon) newServer(name string, c launchConfig, cfg *config.Config) *managedServer {
	w := d.pool.Workload(name)
	w.ApplyConfig(cfg.Servers[name], cfg)
	ctx, end := context.WithCancel(d.serverContext)
	server := supervisor.New(d.spec(name, c, w, cfg), engine, d.log, d.opts.ForceStop)
	if drain, drained := d.maintenance.Record().Of(name); drained {
		server.Drain(drain.Options())
	}
	l := &lifetime{ctx: ctx, end: end, ended: make(chan struct{})}
	l.streams.Store(engine.Capabilities(cfg.Servers[name].Args).CompleteStreams)
	return &managedServer{name: name, server: server, workload: w, launch: c, lifetime: l}
}

func (d *Daemon) spec(name string, c launchConfig, w *placement.Workload, cfg *config.Config) supervisor.Spec {
	entry := cfg.Servers[name]
	return supervisor.Spec{
		Name: name, Binary: c.binary, Model: entry.Model, CtxSize: entry.CtxSize, NGPULayers: entry.NGPULayers, Args: entry.Args,
		Dir: filepath.Join(d.serversDir(), name), GPU: w, Secrets: cfg.KeyVariables(),
		LoadTimeout: entry.LoadTimeout, StallTimeout: entry.StallTimeout,
		// Asked only once the server runs, and the router is there by then.
		Traffic: func() supervisor.Traffic {
			now := d.router.Traffic(name)
			return supervisor.Traffic{Calls: now.Calls, Waiting: now.Waiting, Bytes: now.Bytes}
		},
	}
}

// start runs a server until its life ends.
func (d *Daemon) start(s *managedServer) {
	d.group.Go(func() {
		defer close(s.ended)
		s.server.Run(s.ctx)
	})
}

// servers are those of now, sorted by name. One that was taken out of the
// configuration is among them until it has ended.
func (d *Daemon) servers() []*managedServer {
	if f := d.fleet.Load(); f != nil {
		return f.servers
	}
	return nil
}

// fleet is all servers of one moment. It is never changed.
type fleet struct {
	servers []*managedServer // sorted by name
	changed chan struct{}    // closed when there is another one
}

// setFleet puts another fleet in the place of the present one. The caller holds
// changing.
func (d *Daemon) setFleet(servers []*managedServer) {
	old := d.fleet.Swap(&fleet{servers, make(chan struct{})})
	var workloads []*placement.Workload
	for _, s := range servers {
		workloads = append(workloads, s.workload)
	}
	d.pool.ApplyConfig(workloads, d.setup.Config.GPU)
	if old != nil {
		close(old.changed)
	}
}

// awaitRemoved waits until a server that was taken out has come to rest, and takes it
// out of the fleet, unless it was taken back meanwhile.
func (d *Daemon) awaitRemoved(leaving *managedServer) {
	for {
		now := leaving.server.Snapshot()
		if now.State == supervisor.Stopped && d.removeStopped(leaving) {
			return
		}
		select {
		case <-leaving.ctx.Done(): // with all others
			return
		case <-now.Changed:
		}
	}
}

func (d *Daemon) removeStopped(leaving *managedServer) (done bool) {
	d.fleetMu.Lock()
	defer d.fleetMu.Unlock()
	i := slices.Index(d.servers(), leaving)
	if i < 0 { // it was taken back
		return true
	}
	if leaving.server.Snapshot().State != supervisor.Stopped {
		return false
	}
	leaving.end()
	<-leaving.ended
	d.setFleet(slices.Delete(slices.Clone(d.servers()), i, i+1))
	d.maintenance.FleetChanged()
	d.router.Forget(leaving.name)
	_ = os.Remove(filepath.Join(d.serversDir(), leaving.name)) // it is empty, or somebody has put something there
	d.log.Info().Str("server", leaving.name).Msg("the server that was taken out has ended")
	return true
}

// find returns the servers of some names, sorted; without names it returns all, those
// that a reload has removed and that have not ended included.
func (d *Daemon) find(names []string) ([]*managedServer, error) {
	if len(names) == 0 {
		return d.servers(), nil
	}
	known := d.configured()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, unknownServer(name, known)
		}
	}
	return slices.DeleteFunc(slices.Clone(d.servers()), func(s *managedServer) bool { return !slices.Contains(names, s.name) }), nil
}

func unknownServer(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("there is no server %q, and the configuration has none", name)
	}
	return fmt.Errorf("there is no server %q; the configuration has %s", name, strings.Join(known, ", "))
}

// configured are the names of the servers that the configuration has, sorted.
func (d *Daemon) configured() (names []string) {
	for _, s := range d.servers() {
		if !s.removed {
			names = append(names, s.name)
		}
	}
	return names
}

// placedServers are the servers as placement watches them.
func (d *Daemon) placedServers() (list []placement.Server) {
	for _, s := range d.servers() {
		list = append(list, placement.Server{
			Workload: s.workload, Process: s.server, Calls: func() int { return d.router.Traffic(s.name).Calls },
		})
	}
	return list
}
