package daemon

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// visitors makes each connection a visitor.
type visitors struct{ net.Listener }

func (l visitors) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &visitor{Conn: conn, fresh: true, quiet: time.Now()}, nil
}

// visitor is a caller's connection, which can be ended while nothing is asked on
// it. A call that is there by then is still taken: only one that is on its way at
// that very moment meets the end of the connection. That can't be helped in HTTP/1.1,
// where nobody but an answer can say that a connection ends, and there is none to be given.
type visitor struct {
	net.Conn

	mu       sync.Mutex
	fresh    bool      // it has the first call to come, or part of one has
	quiet    time.Time // since when nothing has come; zero = a call is under way
	leaving  bool      // it ends unless something has
	deadline time.Time // for reading, as the server wants it
}

// lastLook is how long what has come may take to be read, when a connection is about
// to be closed.
const lastLook = time.Millisecond

func (v *visitor) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leaving && n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		if err := v.Conn.SetReadDeadline(time.Now().Add(lastLook)); err != nil {
			return 0, err
		}
		n, err = v.Conn.Read(p)
	}
	if n > 0 && !v.quiet.IsZero() {
		v.fresh, v.quiet = true, time.Now()
	}
	if n > 0 && v.leaving {
		v.leaving = false
		_ = v.Conn.SetReadDeadline(v.deadline) // the next Read tells
	}
	return n, err
}

func (v *visitor) SetReadDeadline(at time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deadline = at
	if v.leaving {
		return nil
	}
	return v.Conn.SetReadDeadline(at)
}

// works notes that a call has come.
func (v *visitor) works() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.quiet = time.Time{}
}

// rests notes that it has been answered.
func (v *visitor) rests() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fresh, v.quiet = false, time.Now()
}

// leave ends a connection on which nothing has come for some time, counted from
// began at the earliest, or for linger if it is a fresh one.
func (v *visitor) leave(began time.Time, rest time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.leaving || v.quiet.IsZero() {
		return
	}
	if v.fresh {
		rest = linger
	}
	if v.quiet.After(began) {
		began = v.quiet
	}
	if time.Since(began) < rest {
		return
	}
	v.leaving = true
	_ = v.Conn.SetReadDeadline(time.Unix(1, 0)) // who waits for a call on it looks once more
}
