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
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/supervisor"
)

const (
	// shutdownGrace is how long running calls may take to end when llmsup stops.
	shutdownGrace = 30 * time.Second
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
)

// Daemon is llmsup with everything that it needs in its hands, and nothing
// started yet.
type Daemon struct {
	cfg     *config.Config
	version string
	log     zerolog.Logger
	hurry   <-chan struct{}

	listener net.Listener
	control  *control.Listener
	unlock   func()
	servers  []*supervisor.Server
	router   *router.Router
}

// Open takes hold of all that can be refused: the state directory, the port,
// the control socket. It starts no process, so its errors leave nothing behind.
// When hurry is closed, nothing that Run waits for is waited for any more.
func Open(cfg *config.Config, binary, version string, log zerolog.Logger, hurry <-chan struct{}) (*Daemon, error) {
	d := &Daemon{cfg: cfg, version: version, log: log, hurry: hurry}
	if err := d.open(binary); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) open(binary string) (err error) {
	if d.unlock, err = control.LockStateDir(d.cfg.StateDir); err != nil {
		return err
	}
	supervisor.EndLeftovers(d.serversDir(), d.log)
	if d.listener, err = listen(d.cfg.Listen); err != nil {
		return err
	}
	if d.control, err = control.Listen(d.cfg.ControlSocket); err != nil {
		return err
	}
	d.servers = d.newServers(binary)
	d.router, err = d.newRouter()
	return err
}

// serversDir has a folder for each server.
func (d *Daemon) serversDir() string { return filepath.Join(d.cfg.StateDir, "servers") }

// Close gives back what Open took hold of. Run does it by itself.
func (d *Daemon) Close() {
	if d.control != nil {
		_ = d.control.Close()
	}
	if d.listener != nil {
		_ = d.listener.Close() // Run has closed it already
	}
	if d.unlock != nil {
		d.unlock()
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

func (d *Daemon) newServers(binary string) []*supervisor.Server {
	var servers []*supervisor.Server
	for _, name := range sortedKeys(d.cfg.Servers) {
		s := d.cfg.Servers[name]
		servers = append(servers, supervisor.New(supervisor.Spec{
			Name: name, Binary: binary, Model: s.Model, CtxSize: s.CtxSize, NGPULayers: s.NGPULayers, Args: s.Args,
			Dir: filepath.Join(d.serversDir(), name), Devices: d.cfg.GPU, Secrets: d.cfg.KeyVariables(),
			LoadTimeout: s.LoadTimeout, StallTimeout: s.StallTimeout,
			// Asked only once the server runs, and the router is there by then.
			Traffic: func() supervisor.Traffic { return supervisor.Traffic(d.router.Traffic(name)) },
		}, d.log, d.hurry))
	}
	return servers
}

func (d *Daemon) newRouter() (*router.Router, error) {
	table, err := d.cfg.Table()
	if err != nil {
		return nil, err
	}
	cfg := router.Config{Table: table, MaxBody: int64(d.cfg.MaxBody), Locals: map[string]router.Local{}}
	for _, s := range d.servers {
		cfg.Locals[s.Snapshot().Name] = local{s}
	}
	for _, name := range sortedKeys(d.cfg.Upstreams) {
		u := d.cfg.Upstreams[name]
		key, missing, err := config.Key(u)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		if missing != "" {
			d.log.Warn().Str("upstream", name).Msg("it has no key, so no call can go there; " + missing)
			if u.APIKeyFile != "" {
				missing = "its api_key_file is missing or empty" // callers need not know where it is
			}
		}
		if words := config.KeyFileWarning(u); words != "" {
			d.log.Warn().Str("upstream", name).Msg(words)
		}
		cfg.Upstreams = append(cfg.Upstreams, router.Upstream{Name: name, BaseURL: u.BaseURL, Key: key, Missing: missing})
	}
	return router.New(cfg, d.log)
}

// Run serves until ctx ends, then lets running calls end, stops the servers,
// and gives everything back. It returns nil after an orderly end.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	d.log.Info().Str("version", d.version).Int("pid", os.Getpid()).
		Str("base_url", "http://"+d.listener.Addr().String()+"/v1").Msg("llmsup takes calls")

	public := &http.Server{
		Handler: d.router, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(debugWriter{d.log}, "", 0),
	}
	private := &http.Server{Handler: control.NewHandler(d), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout}

	// The servers outlive ctx: they are stopped once the calls have ended.
	serving, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, s := range d.servers {
		running.Go(func() { s.Run(serving) })
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ignoreClosed(public.Serve(d.listener)) })
	group.Go(func() error { return ignoreClosed(private.Serve(d.control)) })
	group.Go(func() error {
		<-ctx.Done()
		d.endCalls(public)
		stopServers()
		running.Wait()
		return private.Close()
	})
	err := group.Wait()
	d.log.Info().Msg("llmsup has stopped")
	return err
}

// endCalls closes the port and waits for the calls that have begun.
func (d *Daemon) endCalls(public *http.Server) {
	d.log.Info().Int("calls", d.router.Inflight()).Msg("stopping; once more to stop at once")
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	done := make(chan struct{})
	go func() {
		select {
		case <-d.hurry:
			cancel()
		case <-done:
		}
	}()
	if err := public.Shutdown(ctx); err != nil {
		d.log.Warn().Int("calls", d.router.Inflight()).Msg("calls are cut off")
		_ = public.Close() // what it says, Shutdown has said
	}
	close(done)
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
