// Package daemon is llmsup at work: it wires the supervisor of each local
// server, the router and the control API together, starts them in order and
// stops them in the opposite one. cmd/llmsup's start runs it.
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

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/graceful"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/supervisor/process"
	"github.com/llmsup/llmsup/systemd"
)

const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
)

// Setup is what a daemon runs on.
type Setup struct {
	Config *config.Config // complete and valid: Resolve has accepted it
	Binary string         // llama-server's absolute path; "" where there are no servers
}

// Options are what a daemon is given besides its Setup.
type Options struct {
	Version   string
	Log       zerolog.Logger
	ForceStop <-chan struct{}       // closed: nothing that Run waits for is waited for any more
	LoadSetup func() (Setup, error) // reads the Setup anew, for a reload

	Listener net.Listener    // that systemd has passed, at the Config's Listen; nil = none
	Systemd  systemd.Manager // that runs llmsup
}

// Daemon is llmsup with everything that it needs in its hands, and nothing
// started yet.
type Daemon struct {
	opts Options
	log  zerolog.Logger

	listener    net.Listener
	control     *control.Listener
	releaseLock func()
	router      *router.Router
	fleet       atomic.Pointer[fleet]
	monitor     *gpu.Monitor
	pool        *placement.Pool
	accounting  *accounting
	maintenance *maintenance.Manager

	serverContext context.Context //nolint:containedctx // of all servers, which outlive the context of Run
	stop          context.CancelFunc
	started       chan struct{} // closed when Run has started them
	group         sync.WaitGroup

	reloadErrorSet chan struct{}          // receives when refused has changed
	reloadError    atomic.Pointer[string] // why the last reload was refused; nil = it was not

	notifyMu      sync.Mutex // held from the word that a reload begins to the one that it is over
	reloadMu      sync.Mutex // one at a time
	fleetMu       sync.Mutex // held to change what follows, the fleet, its drains or the routing
	setup         Setup
	upstreams     []router.Upstream // as they are now
	shutdownGrace atomic.Int64      // nanoseconds that calls have to end; read by a stop, which waits for no lock
	stopping      bool
}

// Open takes hold of all that can be refused: the state directory, the port,
// the control socket. It starts no process, so its errors leave nothing behind.
func Open(setup Setup, opts Options) (*Daemon, error) {
	d := &Daemon{opts: opts, setup: setup, log: opts.Log, started: make(chan struct{}), reloadErrorSet: make(chan struct{}, 1)}
	d.serverContext, d.stop = context.WithCancel(context.Background())
	if err := d.open(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) open() (err error) {
	cfg := d.setup.Config
	if d.releaseLock, err = control.LockStateDir(cfg.StateDir); err != nil {
		return err
	}
	process.KillOrphans(d.serversDir(), d.log)
	if d.listener = d.opts.Listener; d.listener == nil {
		if d.listener, err = listen(cfg.Listen); err != nil {
			return err
		}
	}
	if cfg.IgnoredListen != "" {
		d.log.Warn().Str("listen", cfg.IgnoredListen).Str("socket", cfg.Listen).Msg("systemd passes a socket at another address than listen says, and the socket counts; change ListenStream= of llmsup.socket, or listen")
	}
	if err := CheckKeyRoutes(cfg, nil); err != nil {
		d.log.Warn().Msg(err.Error())
	}
	if d.control, err = control.Listen(cfg.ControlSocket); err != nil {
		return err
	}
	d.monitor = gpu.NewMonitor(d.log)
	if cfg.GPU.Devices == gpu.None {
		d.monitor = gpu.NewNull()
	}
	d.pool = placement.NewPool(d.monitor, d.log)
	d.shutdownGrace.Store(int64(cfg.ShutdownGrace))
	d.accounting = openAccounting(cfg, d.log)
	d.maintenance = maintenance.Open(d.serverContext, maintenance.Options{
		Fleet: maintenanceFleet{d}, StateDir: cfg.StateDir, Log: d.log, Lock: &d.fleetMu,
	}, sortedKeys(cfg.Servers))
	planned := d.plan(d.setup)
	routing, err := d.routing(cfg, planned.fleet)
	if err != nil {
		return err
	}
	d.upstreams = routing.Upstreams
	d.accounting.prices.applyConfig(cfg, routing.Upstreams)
	d.setFleet(planned.fleet)
	if d.router, err = router.New(routing, d.log); err != nil {
		return err
	}
	return d.registerMetrics()
}

// serversDir has a folder for each server.
func (d *Daemon) serversDir() string { return filepath.Join(d.setup.Config.StateDir, "servers") }

// Close gives back what Open took hold of. Run does it by itself.
func (d *Daemon) Close() {
	d.stop()
	if d.control != nil {
		_ = d.control.Close()
	}
	if d.listener != nil {
		_ = d.listener.Close() // Run has closed it already
	}
	if d.accounting != nil {
		d.accounting.close(d.opts.ForceStop) // Run has closed it already
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
		return nil, fmt.Errorf("listen on %s: another program has the port; end it, or pass another one with --listen HOST:PORT", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen on %s: no network interface of this machine has that address; pass another one with --listen HOST:PORT", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: ports below 1024 need root; pass a higher one with --listen HOST:PORT", address)
	}
	return nil, fmt.Errorf("listen on %s: %w; pass another address with --listen HOST:PORT", address, err)
}

// Run serves until ctx ends, then lets running calls end, stops the servers,
// and gives everything back. It returns nil after an orderly end.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	if d.setup.Config.Unauthenticated() {
		d.log.Warn().Msg("there are no keys: everybody who can reach this port can make calls, and spend your money at the upstreams")
	}
	d.log.Info().Str("version", d.opts.Version).Int("pid", os.Getpid()).
		Str("base_url", "http://"+d.listener.Addr().String()+"/v1").Msg("llmsup takes calls")

	public := &http.Server{
		Handler: d.router, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(debugWriter{d.log}, "", 0),
	}
	conns := graceful.New(public, d.listener, d.setup.Config.MaxConnections, d.opts.Listener != nil)
	private := &http.Server{Handler: control.NewHandler(d, d.opts.Version), ConnContext: control.WithPeer, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}

	for _, s := range d.servers() {
		stopped := s.server.Snapshot()
		d.start(s)
		<-stopped.Changed // at once: from the first status line on it is starting or drained
	}
	d.fleetMu.Lock()
	d.maintenance.FleetChanged()
	d.fleetMu.Unlock()
	told := d.statusLine()
	d.logNotifyError(d.opts.Systemd.Ready(told))
	close(d.started)
	var watching sync.WaitGroup // of the GPUs, which a stop needs as well
	watching.Go(func() { d.monitor.Run(d.serverContext) })
	watching.Go(func() { d.pool.Watch(d.serverContext, d.placedServers) })
	watching.Go(func() { d.accounting.restoreBudgets(d.serverContext) })
	watching.Go(func() { releaseMemoryWhenIdle(d.serverContext, d.router.Calls, d.router.Inflight, freeMemory) })
	watching.Go(d.findLoops)

	group, ctx := errgroup.WithContext(ctx)
	watching.Go(func() { d.notifyStateChanges(ctx, told) })
	watching.Go(func() { d.feedWatchdog(ctx) })
	group.Go(func() error {
		d.accounting.awaitBudgets(ctx)
		return conns.Serve()
	})
	group.Go(func() error { return ignoreClosed(private.Serve(d.control)) })
	group.Go(func() error {
		<-ctx.Done()
		d.endCalls(public, conns)
		d.accounting.close(d.opts.ForceStop)
		d.fleetMu.Lock()
		d.stopping = true
		d.fleetMu.Unlock()
		d.maintenance.Stop()
		d.stop() // they are needed until the calls have ended
		d.group.Wait()
		d.maintenance.Wait()
		watching.Wait()
		d.accounting.prices.wait()
		return private.Close()
	})
	err := group.Wait()
	d.log.Info().Msg("llmsup has stopped")
	return err
}

// findLoops finds the upstreams that are this llmsup itself. Only then are lists of
// prices asked for: an upstream's key is not for others.
func (d *Daemon) findLoops() {
	d.router.FindLoops(d.serverContext)
	d.accounting.prices.begin(d.serverContext, d.router.IsLoop)
}

// endCalls closes the port and waits for the calls that have begun.
func (d *Daemon) endCalls(public *http.Server, conns *graceful.Drainer) {
	conns.Begin() // before anybody hears of it, who may rely on it
	d.logNotifyError(d.opts.Systemd.Stopping("stopping when running calls have ended"))
	d.log.Info().Int("calls", d.router.Inflight()).Msg("stopping; once more to stop at once")
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
		d.log.Warn().Int("calls", d.router.Inflight()).Msg("calls are cut off")
		_ = public.Close() // what it says, Shutdown has said
		d.awaitLedgerRows()
	}
	close(done)
}

// rejectTimeout is how long the calls that still wait for a server may take to get their
// error before their connections are closed.
const rejectTimeout = 250 * time.Millisecond

// recordTimeout is how long calls that are cut off may take to be written down.
const recordTimeout = 2 * time.Second

// awaitLedgerRows waits until each call that was cut off is written down: what was
// paid for must not get lost.
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

// debugWriter takes net/http's own log: clients that speak TLS to a plain port,
// headers too long. Worth a look only when one asks why a client fails.
type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Str("from", "net/http").Msg(string(p))
	return len(p), nil
}
