package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
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
	open    atomic.Int64  // connections
	told    atomic.Int64  // of them, those whose answer says that they end
	served  chan struct{} // closed when no connection is accepted any more
}

func (f *farewell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.leaving.Load() {
		f.told.Add(1)
		defer f.told.Add(-1)
		w.Header().Set("Connection", "close")
	}
	f.next.ServeHTTP(w, r)
}

// count is the http.Server's ConnState.
func (f *farewell) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		f.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		f.open.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// sayFarewell has callers leave their connections, and stops accepting new ones,
// which wait for the next llmsup in the queue of the socket that systemd keeps. It
// returns when every connection that is left is about to end, after linger, or
// when ctx ends. A socket of llmsup's own goes with it, and there is no next one to be
// gentle for.
func (d *Daemon) sayFarewell(ctx context.Context) {
	d.farewell.leaving.Store(true)
	if d.opts.Listener == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	tick := time.NewTicker(lingerLook)
	defer tick.Stop()
	for d.farewell.open.Load() > d.farewell.told.Load() {
		select {
		case <-ctx.Done():
		case <-tick.C:
			continue
		}
		break
	}
	_ = d.listener.Close()
	// A connection that was accepted a moment ago is known to the server only when
	// Serve has come round: a Shutdown before that would not wait for its call.
	select {
	case <-d.farewell.served:
	case <-time.After(time.Second):
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
