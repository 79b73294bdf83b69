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

// visitors makes each connection that it accepts a visitor. There are so many at
// once and no more.
type visitors struct {
	net.Listener
	sockets *sockets
}

// sockets remembers what it has accepted last: what bounds their number puts
// something around them that hides what they are.
type sockets struct {
	net.Listener
	last net.Conn
}

func (s *sockets) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	s.last = conn
	return conn, err
}

func newVisitors(l net.Listener, most int) *visitors {
	s := &sockets{Listener: l}
	return &visitors{netutil.LimitListener(s, most), s}
}

// Accept is for one goroutine, as it is in an http.Server.
func (l *visitors) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, err := l.sockets.last.(syscall.Conn).SyscallConn() // it is a socket of the kernel's
	if err != nil {
		_ = conn.Close() // it is closed already, says the error
		return nil, err
	}
	v := &visitor{Conn: conn, raw: raw, fresh: true, quiet: time.Now()}
	v.tryRead = v.readNow
	return v, nil
}

// visitor is a caller's connection, which can be ended while nothing is asked on
// it: what has reached this machine by then is still taken. Only a call that is on its
// way at that very moment meets the end. That can't be helped in HTTP/1.1, where
// nothing but an answer can say that a connection ends, and there is none to be given.
type visitor struct {
	net.Conn
	raw syscall.RawConn // its socket

	mu     sync.Mutex
	fresh  bool      // it has the first call to come, or part of one has
	quiet  time.Time // since when nothing has come; zero = a call is under way
	halves halfClose

	// These are for Read, which one goroutine at a time calls, as that of net.Conn
	// may not be, but an http.Server does.
	into    []byte
	n       int
	err     error
	tryRead func(fd uintptr) bool // readNow
}

// Read reads what has come, in one go with noting that something has: leave must
// not find a connection quiet that is not.
func (v *visitor) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	v.into = p
	err := v.raw.Read(v.tryRead)
	v.into = nil
	switch {
	case err != nil: // its deadline is over, or it is closed
		if e, ok := errors.AsType[*net.OpError](err); ok {
			e.Op = "read"
		}
		return 0, err
	case v.err != nil:
		return 0, &net.OpError{Op: "read", Net: v.LocalAddr().Network(), Source: v.LocalAddr(), Addr: v.RemoteAddr(), Err: os.NewSyscallError("read", v.err)}
	case v.n == 0:
		return 0, io.EOF
	}
	return v.n, nil
}

// readNow returns false when there is nothing to be read yet.
func (v *visitor) readNow(fd uintptr) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for {
		v.n, v.err = unix.Read(int(fd), v.into)
		if !errors.Is(v.err, unix.EINTR) {
			break
		}
	}
	if errors.Is(v.err, unix.EAGAIN) {
		return false
	}
	if v.n > 0 && !v.quiet.IsZero() {
		v.fresh, v.quiet = true, time.Now()
	}
	return v.n != 0 || v.err != nil || !v.holdEnd(fd)
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
	if v.quiet.IsZero() {
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
	_ = v.raw.Control(func(fd uintptr) { // one that is closed needs no end
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR) // whoever waits for a call on it reads its end
		}
	})
}
