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

// linger is how long, at most, callers that keep their connections may go on with
// them when llmsup stops and systemd keeps its socket. Each answer in that time
// tells its connection to end, and the caller to come anew: to llmsup, and then
// to the next one. What is not used for so long is closed. To close all at once
// would cut the calls that are just being written.
const linger = 5 * time.Second

// lingerLook is how often it is looked whether somebody keeps a connection.
const lingerLook = 20 * time.Millisecond

// Drainer serves an http.Server, and has the answers to calls say that their
// connection ends, once it is time to leave.
type Drainer struct {
	server   *http.Server
	listener net.Listener
	kept     bool // the socket outlives this process
	next     http.Handler
	leaving  atomic.Bool
	began    time.Time     // when leaving began
	told     atomic.Int64  // connections whose answer says that they end
	served   chan struct{} // closed when no connection is accepted any more

	mu       sync.Mutex
	visitors map[*visitor]bool // the connections
}

// New prepares a server that accepts at most so many connections at once. kept says
// that the socket outlives this process, as one of systemd's does: then clients that
// go on with their connections are given time to close them.
func New(server *http.Server, l net.Listener, most int, kept bool) *Drainer {
	f := &Drainer{
		server: server, listener: newVisitors(l, most), kept: kept, next: server.Handler,
		served: make(chan struct{}), visitors: map[*visitor]bool{},
	}
	server.Handler, server.ConnState, server.ConnContext = http.HandlerFunc(f.serveHTTP), f.count, withVisitor
	return f
}

// Begin has answers that begin from now on end their connections.
func (f *Drainer) Begin() {
	f.began = time.Now()
	f.leaving.Store(true)
}

func (f *Drainer) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if f.leaving.Load() {
		f.told.Add(1)
		defer f.told.Add(-1)
		w.Header().Set("Connection", "close")
	}
	// HTTP/1.0 has no interim responses (RFC 9110, 15.2).
	if v, ok := r.Context().Value(visitorKey{}).(*visitor); ok && r.ProtoAtLeast(1, 1) {
		v.beginCall()
		defer v.endCall()
	}
	f.next.ServeHTTP(w, r)
}

// visitorKey is the key of a request's *visitor in its context.
type visitorKey struct{}

// withVisitor is the http.Server's ConnContext.
func withVisitor(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, visitorKey{}, conn)
}

// count is the http.Server's ConnState.
func (f *Drainer) count(conn net.Conn, state http.ConnState) {
	v := conn.(*visitor) // the visitors that serve accepts
	switch state {
	case http.StateNew:
		f.mu.Lock()
		f.visitors[v] = true
		f.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		f.mu.Lock()
		delete(f.visitors, v)
		f.mu.Unlock()
	case http.StateIdle:
		v.rests()
	case http.StateActive:
		v.works()
	}
}

func (f *Drainer) open() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.visitors))
}

// part ends the connections that have rested for some time since llmsup began to
// leave. A new one has the time of linger for its first call in any case.
func (f *Drainer) part(began time.Time, rest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.visitors {
		v.leave(began, rest)
	}
}

// Drain has callers leave their connections, once Begin was called, and
// stops accepting new ones, which wait for the next llmsup in the queue of the
// socket that systemd keeps. It returns when there is no connection left, or when
// ctx ends. A socket of llmsup's own goes with it, and there is no next one to be
// gentle for: what rests is closed at once.
//
// Only then may the http.Server know of it: once it does, it drops calls that it
// has just read.
func (f *Drainer) Drain(ctx context.Context) {
	rest := time.Duration(0)
	if f.kept {
		rest = linger
		ctx, cancel := context.WithTimeout(ctx, linger)
		until(ctx, func() bool { return f.open() <= f.told.Load() })
		cancel()
	}
	_ = f.listener.Close()
	// A connection that was accepted a moment ago is known only when Serve has come
	// round.
	select {
	case <-f.served:
	case <-ctx.Done():
	}
	until(ctx, func() bool {
		f.part(f.began, rest)
		return f.open() == 0
	})
}

// until waits until something is so, or ctx ends.
func until(ctx context.Context, so func() bool) {
	tick := time.NewTicker(lingerLook)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Serve serves until the server is closed, or leaving has closed its listener: neither
// is an error.
func (f *Drainer) Serve() error {
	defer close(f.served)
	err := f.server.Serve(f.listener)
	if f.leaving.Load() && errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
