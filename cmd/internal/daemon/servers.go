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
	"github.com/llmsup/llmsup/cmd/internal/gpureport"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/serverreport"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/generic"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
	"github.com/llmsup/llmsup/supervisor/process"
)

// engineOf returns the engine of a server.
func engineOf(entry config.Server) supervisor.Engine {
	if !entry.IsCommand() {
		return llamacpp.Engine{}
	}
	return generic.Engine{
		Argv: entry.Argv, Env: entry.Env, Slots: entry.Slots, Stop: entry.StopCommand, Sleep: entry.Sleep.Path, Wake: entry.Sleep.Wake,
		Health: cmp.Or(entry.Health, generic.DefaultHealth), BasePath: cmp.Or(entry.BasePath, generic.DefaultBasePath),
	}
}

// managedServer is a server of the configuration, with its supervisor and its workload on
// the GPUs. It is immutable: a reload replaces it by another one for the same supervisor.
type managedServer struct {
	name     string
	server   *supervisor.Server
	workload *placement.Workload
	launch   launchConfig
	loading  ondemand.Settings
	removed  bool // from the configuration; it ends when its calls have ended
	*lifetime
}

// lifetime is the time in which a server's Run runs.
type lifetime struct {
	ctx   context.Context //nolint:containedctx // of the server, from its first plan to its removal
	end   context.CancelFunc
	ended chan struct{} // closed when Run has returned

	capabilities atomic.Pointer[models.Capabilities] // of the engine as it is configured now
	demand       *ondemand.Demand
}

// launchConfig is what a server's process is started with. If it changes, the process has
// to be replaced.
type launchConfig struct {
	entry   config.Server // without the settings that need no new process
	binary  string
	devices string
}

func launchConfigOf(name string, setup Setup) launchConfig {
	entry := setup.Config.Servers[name]
	devices := setup.Config.DevicesOf(entry)
	entry.GPU, entry.LoadTimeout, entry.StallTimeout, entry.Default = "", 0, 0, false
	return launchConfig{entry.WithoutLoading(), setup.Programs[name], devices}
}

// serverChanges is the difference that a Setup makes to the present servers.
type serverChanges struct {
	servers  []*managedServer // afterwards, sorted by name
	added    []*managedServer
	replaced []*managedServer // with another launchConfig
	removed  []*managedServer
	stayed   []*managedServer
}

// plan determines the changes for a Setup. It starts and stops nothing, and does not change
// the present servers. The caller holds serversMu.
func (d *Daemon) plan(setup Setup) serverChanges {
	var c serverChanges
	present := map[string]*managedServer{}
	for _, s := range d.servers() {
		present[s.name] = s
	}
	for _, name := range sortedKeys(setup.Config.Servers) {
		wanted, loading := launchConfigOf(name, setup), loadingOf(name, setup.Config)
		s := present[name]
		delete(present, name)
		switch {
		case s == nil:
			s = d.newServer(name, wanted, loading, setup.Config)
			c.added = append(c.added, s)
		case !s.removed && reflect.DeepEqual(s.launch, wanted):
			s = &managedServer{s.name, s.server, s.workload, s.launch, loading, false, s.lifetime}
			c.stayed = append(c.stayed, s)
		default: // also a removed server that is added again before it has ended
			s = &managedServer{s.name, s.server, s.workload, wanted, loading, false, s.lifetime}
			c.replaced = append(c.replaced, s)
		}
		c.servers = append(c.servers, s)
	}
	for _, name := range sortedKeys(present) {
		s := present[name]
		if !s.removed {
			s = &managedServer{s.name, s.server, s.workload, s.launch, s.loading, true, s.lifetime}
			c.removed = append(c.removed, s)
		}
		c.servers = append(c.servers, s) // until it has ended
	}
	slices.SortFunc(c.servers, func(a, b *managedServer) int { return cmp.Compare(a.name, b.name) })
	return c
}

func (d *Daemon) newServer(name string, c launchConfig, loading ondemand.Settings, cfg *config.Config) *managedServer {
	w := d.pool.Workload(name)
	w.ApplyConfig(located(name, cfg), cfg)
	ctx, end := context.WithCancel(d.serverContext)
	server := supervisor.New(d.spec(name, c, w, cfg), engineOf(cfg.Servers[name]), d.log, d.opts.ForceStop)
	if drain, drained := d.maintenance.Record().Of(name); drained {
		server.Drain(drain.Options())
	}
	if loading.OnDemand {
		server.Unload(supervisor.DrainOptions{Reason: ondemand.OnCall})
	}
	l := &lifetime{ctx: ctx, end: end, ended: make(chan struct{}), demand: d.ondemand.NewDemand()}
	l.applyConfig(cfg.Servers[name])
	return &managedServer{name: name, server: server, workload: w, launch: c, loading: loading, lifetime: l}
}

// applyConfig replaces what the router knows of the server's engine.
func (l *lifetime) applyConfig(entry config.Server) {
	l.capabilities.Store(new(engineOf(entry).Capabilities(entry.Args)))
}

func (d *Daemon) spec(name string, c launchConfig, w *placement.Workload, cfg *config.Config) supervisor.Spec {
	entry := cfg.Servers[name]
	path := located(name, cfg).Model
	model := cmp.Or(path, entry.Model)
	if entry.IsCommand() {
		model = c.binary // what is known of it
	}
	return supervisor.Spec{
		Engine: engineOf(entry), Name: name, Binary: c.binary, Model: model, CtxSize: entry.CtxSize, NGPULayers: entry.NGPULayers, Args: entry.Args,
		Dir: filepath.Join(d.serversDir(), name), GPU: d.gate(entry, path, w), Secrets: cfg.KeyVariables(), KeepCaches: entry.OnDemand() && !entry.IsCommand(),
		LoadTimeout: entry.LoadTimeout, StallTimeout: entry.StallTimeout,
		// It is called only while the server runs, when the router exists.
		Traffic: func() supervisor.Traffic {
			now := d.router.Load(name)
			return supervisor.Traffic{Calls: now.Calls, Waiting: now.Waiting, Bytes: now.Bytes}
		},
	}
}

// stopEnvironment returns the environment of a server's stop command, for what an earlier
// llmsup has left running: without the variables of a server that is no longer configured.
func (d *Daemon) stopEnvironment(name, port string) []string {
	return append(process.Environ(d.setup.Config.KeyVariables(), nil), generic.Variables(d.setup.Config.Servers[name].Env, port)...)
}

// start runs a server until its lifetime ends.
func (d *Daemon) start(s *managedServer) {
	d.group.Go(func() {
		defer close(s.ended)
		s.server.Run(s.ctx)
	})
}

// servers returns the present servers, sorted by name, including those that a reload has
// removed and that have not ended.
func (d *Daemon) servers() []*managedServer {
	if all := d.serverList.Load(); all != nil {
		return all.servers
	}
	return nil
}

// serverList is all servers at one time. It is immutable.
type serverList struct {
	servers []*managedServer // sorted by name
	changed chan struct{}    // closed when another list replaces it
}

// processes returns the supervisors of the present servers, sorted by name. changed is closed when
// another list replaces it.
func (d *Daemon) processes() (list []*supervisor.Server, changed <-chan struct{}) {
	all := d.serverList.Load()
	for _, s := range all.servers {
		list = append(list, s.server)
	}
	return list, all.changed
}

// setServers replaces the present servers. The caller holds serversMu.
func (d *Daemon) setServers(servers []*managedServer) {
	old := d.serverList.Swap(&serverList{servers, make(chan struct{})})
	var workloads []*placement.Workload
	for _, s := range servers {
		workloads = append(workloads, s.workload)
	}
	d.pool.ApplyConfig(workloads, d.setup.Config.GPU)
	if old != nil {
		close(old.changed)
	}
}

// awaitRemoved waits until a removed server has stopped, and removes it from the present
// servers, unless a reload has added it again.
func (d *Daemon) awaitRemoved(s *managedServer) {
	for {
		now := s.server.Snapshot()
		if now.State == supervisor.Stopped && d.removeStopped(s) {
			return
		}
		select {
		case <-s.ctx.Done(): // llmsup stops
			return
		case <-now.Changed:
		}
	}
}

func (d *Daemon) removeStopped(s *managedServer) (done bool) {
	d.serversMu.Lock()
	defer d.serversMu.Unlock()
	i := slices.Index(d.servers(), s)
	if i < 0 { // a reload has added it again
		return true
	}
	if s.server.Snapshot().State != supervisor.Stopped {
		return false
	}
	s.end()
	<-s.ended
	d.setServers(slices.Delete(slices.Clone(d.servers()), i, i+1))
	d.maintenance.ServersChanged()
	d.router.Remove(s.name)
	_ = os.Remove(filepath.Join(d.serversDir(), s.name)) // fails if it is not empty
	d.log.Info().Str("server", s.name).Msg("the removed server has ended")
	return true
}

// find returns the servers with these names, sorted. Without names it returns all,
// including those that a reload has removed and that have not ended.
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

// configured returns the names of the configured servers, sorted.
func (d *Daemon) configured() (names []string) {
	for _, s := range d.servers() {
		if !s.removed {
			names = append(names, s.name)
		}
	}
	return names
}

// gpuServers returns the servers as reports of the GPUs need them.
func (d *Daemon) gpuServers() (list []gpureport.Server) {
	for _, s := range d.servers() {
		pids, _ := s.server.Processes()
		list = append(list, gpureport.Server{Owner: placement.Owner{Server: s.name, PIDs: pids}, Workload: s.workload})
	}
	return list
}

// placedServers returns the servers as placement watches them.
func (d *Daemon) placedServers() (list []placement.Server) {
	for _, s := range d.servers() {
		list = append(list, placement.Server{
			Workload: s.workload, Process: s.server, Calls: func() int { return d.router.Load(s.name).Calls },
		})
	}
	return list
}

// reportedServers returns the servers, and what is known of them now.
func (d *Daemon) reportedServers() (list []serverreport.Server) {
	for _, s := range d.servers() {
		r := serverreport.Server{
			Name: s.name, Process: s.server, Workload: s.workload, Settings: s.loading, Demand: s.demand,
			Figures: d.ondemand.Figures(s.name), Load: d.router.Load(s.name), Aggregation: s.capabilities.Load().CompleteStreams,
		}
		if now, ok := d.downloading(s); ok {
			r.Download = &now
		}
		list = append(list, r)
	}
	return list
}
