package graceful

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

// trackingListener makes each connection that it accepts a trackedConn, and bounds
// their number.
type trackingListener struct {
	net.Listener
	sockets *socketListener
}

// socketListener keeps the connection that it accepted last: netutil's limit wraps
// connections in a type that hides their sockets.
type socketListener struct {
	net.Listener
	last net.Conn
}

func (s *socketListener) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	s.last = conn
	return conn, err
}

func track(l net.Listener, maxConns int) *trackingListener {
	s := &socketListener{Listener: l}
	return &trackingListener{netutil.LimitListener(s, maxConns), s}
}

// Accept is called by one goroutine only, the http.Server's.
func (l *trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, err := l.sockets.last.(syscall.Conn).SyscallConn() // TCP connections have one
	if err != nil {
		_ = conn.Close() // it is closed already, as the error says
		return nil, err
	}
	c := &trackedConn{Conn: conn, raw: raw, awaitingFirst: true, idleSince: time.Now()}
	c.tryRead = c.readNow
	return c, nil
}

// trackedConn is a client's connection that can be closed while it is idle without
// losing a request: bytes that have reached this machine are still read. Only a request
// that is on its way at that moment is lost, and the client has to repeat it. HTTP/1.1
// has no way around that: only a response can announce that a connection closes, and
// an idle connection has none.
type trackedConn struct {
	net.Conn
	raw syscall.RawConn // its socket

	mu            sync.Mutex
	awaitingFirst bool      // its first request, or the rest of one, has still to arrive
	idleSince     time.Time // when the last bytes arrived; zero = a request is in flight
	responding    bool      // the response to the request in flight has begun
	nextArrived   bool      // so have bytes since, which may be of the next request: TLS reads more than it is asked for
	half          halfClose

	// Read's own. An http.Server has one goroutine at a time call it, though net.Conn
	// allows several.
	buffer  []byte
	n       int
	err     error
	tryRead func(fd uintptr) bool // readNow
}

// Read reads the bytes that have arrived and records that they have, in one step:
// closeIdle must not take the connection for idle in between.
func (c *trackedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.buffer = p
	err := c.raw.Read(c.tryRead)
	c.buffer = nil
	switch {
	case err != nil: // its deadline is over, or it is closed
		if e, ok := errors.AsType[*net.OpError](err); ok {
			e.Op = "read"
		}
		return 0, err
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", c.err)}
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// readNow returns false while there is nothing to read.
func (c *trackedConn) readNow(fd uintptr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		c.n, c.err = unix.Read(int(fd), c.buffer)
		if !errors.Is(c.err, unix.EINTR) {
			break
		}
	}
	if errors.Is(c.err, unix.EAGAIN) {
		return false
	}
	if c.n > 0 && !c.idleSince.IsZero() {
		c.awaitingFirst, c.idleSince = true, time.Now()
	}
	if c.n > 0 && c.responding {
		c.nextArrived = true
	}
	return c.n != 0 || c.err != nil || !c.withholdEOF(fd)
}

// setActive records that a request is in flight.
func (c *trackedConn) setActive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idleSince, c.responding, c.nextArrived = time.Time{}, false, false
}

// setIdle records that it has been answered.
func (c *trackedConn) setIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaitingFirst, c.idleSince = c.nextArrived, time.Now()
}

// closeIdle closes the connection if nothing has arrived on it for the grace period,
// counted from began at the earliest. While it awaits its first request, the period is
// idleGrace.
func (c *trackedConn) closeIdle(began time.Time, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idleSince.IsZero() {
		return
	}
	if c.awaitingFirst {
		grace = idleGrace
	}
	if c.idleSince.After(began) {
		began = c.idleSince
	}
	if time.Since(began) < grace {
		return
	}
	_ = c.raw.Control(func(fd uintptr) { // fails if the connection is closed already
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR) // a Read that waits returns EOF
		}
	})
}
