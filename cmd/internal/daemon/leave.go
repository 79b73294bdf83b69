package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// linger is how long callers that keep their connections may go on with them
// when llmsup stops and systemd keeps its socket. Whoever calls in that time is
// answered, and told that this connection ends; what is not used for so long is
// closed. To close all at once would cut the call that is just being written.
const linger = time.Second

// farewell has the answers to calls say that their connection ends, once it is
// time to leave.
type farewell struct {
	next    http.Handler
	leaving atomic.Bool
}

func (f *farewell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	f.next.ServeHTTP(w, r)
}

// stopAccepting leaves new connections to the next llmsup, in the queue of the
// socket that systemd keeps, and has the old ones end. It returns after linger,
// or when ctx ends. A socket of llmsup's own goes with it, and there is no next
// one to be gentle for.
func (d *Daemon) stopAccepting(ctx context.Context) {
	d.farewell.leaving.Store(true)
	if d.opts.Listener == nil {
		return
	}
	_ = d.listener.Close()
	select {
	case <-ctx.Done():
	case <-time.After(linger):
	}
}

// serve is Serve, for which a listener that was closed to leave is no error.
func (d *Daemon) serve(public *http.Server) error {
	err := public.Serve(d.listener)
	if d.farewell.leaving.Load() && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return ignoreClosed(err)
}
