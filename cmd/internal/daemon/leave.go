package daemon

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

// farewell has the answers to calls say that their connection ends, once it is
// time to leave.
type farewell struct {
	next    http.Handler
	leaving atomic.Bool
	told    atomic.Int64  // connections whose answer says that they end
	served  chan struct{} // closed when no connection is accepted any more

	mu       sync.Mutex
	visitors map[*visitor]bool // the connections
}

// begin has answers that begin from now on end their connections. It returns when
// that was.
func (f *farewell) begin() time.Time {
	f.leaving.Store(true)
	return time.Now()
}

func (f *farewell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
func (f *farewell) count(conn net.Conn, state http.ConnState) {
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

func (f *farewell) open() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.visitors))
}

// part ends the connections that have rested for some time since llmsup began to
// leave. A new one has the time of linger for its first call in any case.
func (f *farewell) part(began time.Time, rest time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for v := range f.visitors {
		v.leave(began, rest)
	}
}

// sayFarewell, once leaving has begun, has callers leave their connections, and
// stops accepting new ones, which wait for the next llmsup in the queue of the
// socket that systemd keeps. It returns when there is no connection left, or when
// ctx ends. A socket of llmsup's own goes with it, and there is no next one to be
// gentle for: what rests is closed at once.
//
// Only then may the http.Server know of it: once it does, it drops calls that it
// has just read.
func (d *Daemon) sayFarewell(ctx context.Context, began time.Time) {
	f, rest := &d.farewell, time.Duration(0)
	if d.opts.Listener != nil {
		rest = linger
		ctx, cancel := context.WithTimeout(ctx, linger)
		until(ctx, func() bool { return f.open() <= f.told.Load() })
		cancel()
	}
	_ = d.listener.Close()
	// A connection that was accepted a moment ago is known only when Serve has come
	// round.
	select {
	case <-f.served:
	case <-ctx.Done():
	}
	until(ctx, func() bool {
		f.part(began, rest)
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

// serve is Serve, for which a listener that was closed to leave is no error.
func (d *Daemon) serve(public *http.Server) error {
	defer close(d.farewell.served)
	err := public.Serve(d.listener)
	if d.farewell.leaving.Load() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return ignoreClosed(err)
}
