package graceful

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// idleGrace is how long, at most, clients may go on using open connections when
// llmsup stops and systemd keeps the socket. Each response in that time announces that
// its connection closes, so that the client opens a new one: to llmsup, and later to
// the next llmsup. A connection that is idle for that long is closed. Closing all
// connections at once would cut off requests that clients are writing at that moment.
const idleGrace = 5 * time.Second

// pollInterval is how often Drain checks whether connections are left.
const pollInterval = 20 * time.Millisecond

// Drainer serves an http.Server on connections that it tracks, so that it can close
// them at a stop: Begin, then Drain, then the server's own Shutdown.
type Drainer struct {
	server   *http.Server
	listener net.Listener
	kept     bool // the listening socket outlives this process
	next     http.Handler
	stopping atomic.Bool
	began    time.Time     // when stopping began
	closing  atomic.Int64  // connections whose current response announces that they close
	served   chan struct{} // closed when no connection is accepted any more

	mu    sync.Mutex
	conns map[*trackedConn]bool // the open connections
}

// New prepares a server that accepts at most maxConns connections at once. kept means
// that the listening socket outlives this process, as one passed by systemd does:
// clients that use their connections then get idleGrace to move to new ones. wrap makes the
// connections those of TLS, whose NetConn leads to the ones that it was given; nil = they are served
// as they are.
func New(server *http.Server, l net.Listener, maxConns int, kept bool, wrap func(net.Listener) net.Listener) *Drainer {
	l = track(l, maxConns)
	if wrap != nil {
		l = wrap(l)
	}
	d := &Drainer{
		server: server, listener: l, kept: kept, next: server.Handler,
		served: make(chan struct{}), conns: map[*trackedConn]bool{},
	}
	server.Handler, server.ConnState, server.ConnContext = http.HandlerFunc(d.serveHTTP), d.connState, withConn
	return d
}

// Serve accepts connections until the server is closed or Drain has closed the
// listener. Neither is an error.
func (d *Drainer) Serve() error {
	defer close(d.served)
	err := d.server.Serve(d.listener)
	if d.stopping.Load() && errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Begin makes responses that begin from now on close their connections.
func (d *Drainer) Begin() {
	d.began = time.Now()
	d.stopping.Store(true)
}

// Drain closes the connections after Begin, and stops accepting new ones. It returns
// when no connection is left or ctx ends. Where the socket is kept, new connections
// wait in its queue for the next llmsup; else there is no next one to wait for, and
// idle connections are closed at once.
//
// Shutdown of the http.Server must come after it: that drops requests that the server
// has just read.
func (d *Drainer) Drain(ctx context.Context) {
	grace := time.Duration(0)
	if d.kept {
		grace = idleGrace
		ctx, cancel := context.WithTimeout(ctx, idleGrace)
		waitUntil(ctx, func() bool { return d.open() <= d.closing.Load() })
		cancel()
	}
	_ = d.listener.Close()
	// A connection that was accepted just before is tracked only when Serve has
	// returned.
	select {
	case <-d.served:
	case <-ctx.Done():
	}
	waitUntil(ctx, func() bool {
		d.closeIdle(grace)
		return d.open() == 0
	})
}

func (d *Drainer) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if d.stopping.Load() {
		d.closing.Add(1)
		defer d.closing.Add(-1)
		w.Header().Set("Connection", "close")
	}
	// HTTP/1.0 has no interim responses (RFC 9110, 15.2), and none can be written below TLS: a
	// client that closes its sending side there ends its request.
	if c, ok := r.Context().Value(connKey{}).(*trackedConn); ok && r.ProtoAtLeast(1, 1) {
		c.beginRequest()
		defer c.endRequest()
	}
	d.next.ServeHTTP(w, r)
}

// connKey is the key of a request's *trackedConn in its context.
type connKey struct{}

// withConn is the http.Server's ConnContext.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// connState is the http.Server's ConnState.
func (d *Drainer) connState(conn net.Conn, state http.ConnState) {
	c := trackedOf(conn)
	switch state {
	case http.StateNew:
		d.mu.Lock()
		d.conns[c] = true
		d.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
	case http.StateIdle:
		c.setIdle()
	case http.StateActive:
		c.setActive()
	}
}

// trackedOf returns the connection that Serve's listener has accepted, of one that wraps it.
func trackedOf(conn net.Conn) *trackedConn {
	for {
		below, wraps := conn.(interface{ NetConn() net.Conn })
		if !wraps {
			return conn.(*trackedConn)
		}
		conn = below.NetConn()
	}
}

// open counts the open connections.
func (d *Drainer) open() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.conns))
}

// closeIdle closes the connections that have been idle for some time since the stop
// began. One that still awaits its first request gets idleGrace in any case.
func (d *Drainer) closeIdle(grace time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.closeIdle(d.began, grace)
	}
}

// waitUntil waits until a condition is true or ctx ends.
func waitUntil(ctx context.Context, condition func() bool) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
