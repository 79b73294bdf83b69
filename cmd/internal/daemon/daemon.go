// Package daemon connects the supervisors of the local servers, the router, the GPU
// monitor and the control API. It opens what they need, starts them in order, reloads the
// configuration, and stops them in reverse order. cmd/llmsup's start runs it. It never
// decides where a call goes, which GPU a server gets, or when a process is restarted: the
// packages that it connects do.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/llmsup/llmsup/cmd/internal/accounting"
	"github.com/llmsup/llmsup/cmd/internal/calls"
	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleetconfig"
	"github.com/llmsup/llmsup/cmd/internal/fleet/ownbox"
	"github.com/llmsup/llmsup/cmd/internal/gpureport"
	"github.com/llmsup/llmsup/cmd/internal/graceful"
	"github.com/llmsup/llmsup/cmd/internal/idlememory"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/cmd/internal/modelfiles"
	"github.com/llmsup/llmsup/cmd/internal/notifier"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/page"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/serverreport"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/supervisor/output"
	"github.com/llmsup/llmsup/supervisor/process"
	"github.com/llmsup/llmsup/systemd"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
)

// Setup is the part of a daemon that a reload replaces.
type Setup struct {
	Config   *config.Config    // accepted by its Resolve
	Programs map[string]string // the absolute path of each server's program, by the server's name

	Certificate *certificate.Pair // of the endpoint, as the Config names it; nil = it speaks HTTP
	Warnings    []string          // about files, such as a damaged model; logged when the Setup is used
}

// Options are the part of a daemon that a reload does not change.
type Options struct {
	Version   string
	Log       zerolog.Logger
	LogLines  *output.Ring    // the last lines of Log, as JSON
	ForceStop <-chan struct{} // once closed, a stop waits for no calls, hardly for the ledger, and kills the servers' processes
	// LoadSetup loads the Setup for a reload, with what the fleet defines. text is that of
	// llmsup.yaml; nil = the file is read.
	LoadSetup func(text []byte, shared *config.Shared) (Setup, error)

	Listener net.Listener    // passed by systemd, at the Config's Listen; nil = none
	Systemd  systemd.Manager // that runs llmsup, if any
}

// Daemon is a running llmsup, or one that is opened and not started yet.
type Daemon struct {
	*calls.Lister
	control.FleetConfigurer // shared
	control.BoxReader
	control.CallFinder

	opts Options
	log  zerolog.Logger

	listener    net.Listener
	endpoint    endpoint
	control     *control.Listener
	releaseLock func()
	router      *router.Router
	serverList  atomic.Pointer[serverList]
	monitor     *gpu.Monitor
	gpus        *gpureport.Reporter
	pool        *placement.Pool
	accounting  *accounting.Accounting
	maintenance *maintenance.Manager
	ondemand    *ondemand.Owner
	report      *serverreport.Reporter
	notifier    *notifier.Notifier
	page        *page.Handler
	feed        *feed.Feed
	modelFiles  modelfiles.Lister
	downloads   *downloads.Manager
	boxes       *ownbox.Membership
	otherBoxes  boxes.Registry // as the router sees them
	shared      *fleetconfig.Manager
	running     atomic.Pointer[config.Config] // that of setup, for readers without a lock

	serverContext context.Context //nolint:containedctx // of all servers; it outlives the context of Run
	stop          context.CancelFunc
	started       chan struct{} // closed when Run has started the servers
	group         sync.WaitGroup

	notifyMu      sync.Mutex // held between the two notifications of a reload to systemd
	reloadMu      sync.Mutex // held during a reload
	serversMu     sync.Mutex // guards the fields below, the servers, their drains and the routing
	setup         Setup
	upstreams     []backend.UpstreamConfig // of the present routing
	shutdownGrace atomic.Int64             // nanoseconds for running calls at a stop, which reads it without a lock
	stopping      bool
}

// Open acquires everything that can fail: the state directory, the port, the control
// socket. It starts no process, so nothing is left behind after an error.
func Open(setup Setup, opts Options) (*Daemon, error) {
	d := &Daemon{opts: opts, setup: setup, log: opts.Log, started: make(chan struct{})}
	d.serverContext, d.stop = context.WithCancel(context.Background())
	d.notifier = notifier.New(notifier.Options{Systemd: opts.Systemd, Servers: d.processes, Log: d.log})
	if err := d.open(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) open() (err error) {
	d.setup.logWarnings(d.log)
	cfg := d.setup.Config
	if d.releaseLock, err = control.LockStateDir(cfg.StateDir); err != nil {
		return err
	}
	process.KillOrphans(d.serversDir(), d.stopEnvironment, d.log)
	if d.listener = d.opts.Listener; d.listener == nil {
		if d.listener, err = listen(cfg.Listen); err != nil {
			return err
		}
	}
	d.openEndpoint()
	if cfg.IgnoredListen != "" {
		d.log.Warn().Str("listen", cfg.IgnoredListen).Str("socket", cfg.Listen).Msg("systemd has passed a socket at another address than listen, and the socket is used; change ListenStream= of llmsup.socket, or listen")
	}
	if err := accounting.CheckKeyRoutes(cfg, nil); err != nil {
		d.log.Warn().Msg(err.Error())
	}
	if d.control, err = control.Listen(cfg.ControlSocket); err != nil {
		return err
	}
	d.monitor = gpu.NewMonitor(d.log)
	if cfg.GPU.Devices == gpu.None {
		d.monitor = gpu.NewNull()
	}
	d.pool = placement.NewPool(d.monitor, func(server string, configured uint64) uint64 { return d.ondemand.Need(server, configured) }, d.log)
	d.gpus = gpureport.New(gpureport.Options{Monitor: d.monitor, Pool: d.pool, Servers: d.gpuServers})
	d.shutdownGrace.Store(int64(cfg.ShutdownGrace))
	d.accounting = accounting.Open(cfg, d.log)
	d.maintenance = maintenance.Open(d.serverContext, maintenance.Options{
		Servers: maintainedServers{d}, StateDir: cfg.StateDir, Log: d.log, Lock: &d.serversMu,
	}, sortedKeys(cfg.Servers))
	d.report = serverreport.New(serverreport.Options{Version: d.opts.Version, Servers: d.reportedServers, Sample: d.monitor.Sample})
	d.ondemand = ondemand.New(ondemand.Options{
		Servers: d.onDemandServers, GPUs: d.monitor, Loaded: d.report.ObserveLoad, StateDir: cfg.StateDir, Log: d.log,
	})
	d.openDownloads()
	planned := d.plan(d.setup)
	routing, err := d.routing(cfg, planned.servers)
	if err != nil {
		return err
	}
	d.upstreams = routing.Upstreams
	d.running.Store(cfg)
	d.accounting.Prices.ApplyConfig(cfg, routing.Upstreams)
	d.setServers(planned.servers)
	if d.router, err = router.New(routing, d.log); err != nil {
		return err
	}
	d.Lister = calls.NewLister(d.router.InFlight(), d.accounting, d.log, d.serverContext.Done())
	d.openPage()
	if d.shared, err = fleetconfig.Open(fleetconfig.Options{Box: sharedBox{d}, StateDir: cfg.StateDir, Log: d.log}); err != nil {
		return err
	}
	d.boxes = ownbox.New(ownbox.Options{
		Daemon: pageDaemon{d}, Traffic: pageTraffic{d}, API: control.NewHandler(d, d.opts.Version),
		Boxes: &d.otherBoxes, Config: d.shared, Services: d.accounting.FleetServices(), Log: d.log,
	})
	d.BoxReader, d.CallFinder, d.FleetConfigurer = d.boxes, d.boxes, d.shared
	return d.registerMetrics()
}

// registerMetrics adds the metrics of the servers, the GPUs and the process to those of the
// router.
func (d *Daemon) registerMetrics() error {
	for _, c := range []prometheus.Collector{
		d.gpus, d.report, d.endpoint, d.boxes, d.accounting.FleetMetrics(d.boxes.View), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := d.router.RegisterMetrics(c); err != nil {
			return err
		}
	}
	return nil
}

// serversDir returns the directory with a subdirectory for each server.
func (d *Daemon) serversDir() string { return filepath.Join(d.setup.Config.StateDir, "servers") }

// Close releases what Open has acquired. Run calls it itself.
func (d *Daemon) Close() {
	d.stop()
	if d.control != nil {
		_ = d.control.Close()
	}
	if d.listener != nil {
		_ = d.listener.Close() // Run has closed it already
	}
	if d.accounting != nil {
		d.accounting.Close(d.opts.ForceStop) // Run has closed it already
	}
	if d.releaseLock != nil {
		d.releaseLock()
	}
}

func listen(address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another program uses the port; stop it, or pass another port with --listen HOST:PORT", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: no network interface of this machine has that address; pass another one with --listen HOST:PORT", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: ports below 1024 need root; pass a higher one with --listen HOST:PORT", address)
	}
	return nil, fmt.Errorf("listen on %s: %w; pass another address with --listen HOST:PORT", address, err)
}

// Run serves until ctx ends. Then it waits for running calls, stops the servers, and
// releases everything. It returns nil after an orderly stop.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	if d.setup.Config.Unauthenticated() {
		d.log.Warn().Msg("there are no keys: everyone who can reach this port can make calls, and spend your money at the upstreams")
	}
	d.log.Info().Str("version", d.opts.Version).Int("pid", os.Getpid()).
		Str("base_url", d.endpoint.url(d.listener.Addr().String())+"/v1").Msg("llmsup accepts calls")

	public := &http.Server{
		Handler: d.page.Mount(d.router), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(debugWriter{d.log}, "", 0),
	}
	conns := graceful.New(public, d.listener, d.setup.Config.MaxConnections, d.opts.Listener != nil, d.endpoint.wrap())
	private := &http.Server{Handler: control.NewHandler(d, d.opts.Version), ConnContext: control.WithPeer, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}

	d.needModels(d.setup.Config)
	for _, s := range d.servers() {
		stopped := s.server.Snapshot()
		d.start(s)
		<-stopped.Changed // soon: the first status line must show it as starting or drained
	}
	d.serversMu.Lock()
	d.maintenance.ServersChanged()
	d.serversMu.Unlock()
	d.notifier.Ready()
	close(d.started)
	var watching sync.WaitGroup // the tasks that a stop ends last: it needs some of them
	watching.Go(func() { d.monitor.Run(d.serverContext) })
	watching.Go(func() { d.pool.Watch(d.serverContext, d.placedServers) })
	watching.Go(func() { d.ondemand.Run(d.serverContext) })
	watching.Go(func() { d.accounting.RestoreBudgets(d.serverContext) })
	watching.Go(func() { idlememory.Release(d.serverContext, d.router.Calls, d.router.Inflight, idlememory.Free) })
	if d.endpoint.certificates != nil {
		watching.Go(func() { d.endpoint.certificates.Watch(d.serverContext) })
	}
	watching.Go(d.findLoops)
	watching.Go(func() { d.feed.Run(d.serverContext) })
	d.applyFleet()

	group, ctx := errgroup.WithContext(ctx)
	watching.Go(func() { d.notifier.WatchStates(ctx) })
	watching.Go(func() { d.notifier.FeedWatchdog(ctx) })
	group.Go(func() error {
		d.accounting.AwaitBudgets(ctx)
		d.boxes.AwaitBoxes(ctx)
		return conns.Serve()
	})
	group.Go(func() error { return ignoreClosed(private.Serve(d.control)) })
	group.Go(func() error {
		<-ctx.Done()
		watching.Go(d.boxes.Close) // at once: no other box must send a call
		d.endCalls(public, conns)
		d.accounting.Close(d.opts.ForceStop)
		d.serversMu.Lock()
		d.stopping = true
		d.serversMu.Unlock()
		d.maintenance.Stop()
		d.stop() // after the calls, which need the servers
		d.group.Wait()
		d.downloads.Wait()
		d.maintenance.Wait()
		watching.Wait()
		d.accounting.Prices.Wait()
		return private.Close()
	})
	err := group.Wait()
	d.log.Info().Msg("llmsup has stopped")
	return err
}

// findLoops finds the upstreams that are this llmsup itself. Prices are fetched only after
// that, so that no upstream's key is sent to llmsup itself.
func (d *Daemon) findLoops() {
	d.router.FindLoops(d.serverContext)
	d.accounting.Prices.Fetch(d.serverContext, d.router.IsLoop)
}

// endCalls closes the port and waits for the running calls. Those that have not ended within
// the grace period are rejected if they wait, and aborted otherwise.
func (d *Daemon) endCalls(public *http.Server, conns *graceful.Drainer) {
	conns.Begin() // before systemd and the log announce the stop
	d.page.Close()
	d.notifier.Stopping()
	d.log.Info().Int("calls", d.router.Inflight()).Msg("stopping; send the signal again to stop at once")
	grace := time.Duration(d.shutdownGrace.Load())
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	done := make(chan struct{})
	go func() {
		select {
		case <-d.opts.ForceStop:
			cancel()
		case <-done:
		}
	}()
	conns.Drain(ctx)
	err := public.Shutdown(ctx)
	if err != nil {
		d.router.RejectWaiting()
		soon, cancel := context.WithTimeout(context.Background(), rejectTimeout)
		err = public.Shutdown(soon)
		cancel()
	}
	if err != nil {
		d.log.Warn().Int("calls", d.router.Inflight()).Msg("the time for running calls is over; aborting them")
		_ = public.Close() // Shutdown has returned its error already
		d.awaitLedgerRows()
	}
	close(done)
}

// rejectTimeout is the time for the calls that still wait for a server to receive their
// error, before their connections are closed.
const rejectTimeout = 250 * time.Millisecond

// recordTimeout is the time for the ledger rows of aborted calls.
const recordTimeout = 2 * time.Second

// awaitLedgerRows waits until the aborted calls have their rows in the ledger, so that no
// cost is lost.
func (d *Daemon) awaitLedgerRows() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(recordTimeout); d.router.Inflight() > 0 && time.Now().Before(deadline); {
		<-tick.C
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// debugWriter logs net/http's own messages, such as TLS on a plain port or headers that
// are too long, at the level debug.
type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("from", "net/http").Msg(string(p))
	return len(p), nil
}
