package graceful

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// visit returns both ends of a connection, and what waits until something can be
// read at the visitor's.
func visit(t *testing.T) (v *visitor, caller net.Conn, arrived func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if caller, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caller.Close() })
	conn, err := newVisitors(l, 1).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	v = conn.(*visitor)
	return v, caller, func() {
		t.Helper()
		if err := v.raw.Control(func(fd uintptr) {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000); n != 1 || err != nil {
				t.Errorf("nothing has come: %v", err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVisitorLeaves: a connection that rests ends, but for one on which a call has
// arrived, whether anybody has read of it or not.
func TestVisitorLeaves(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	over := func(t *testing.T, v *visitor, caller net.Conn) {
		t.Helper()
		for _, end := range []net.Conn{v, caller} {
			if n, err := end.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%d bytes, %v; want the end", n, err)
			}
		}
	}
	// goes says that the connection has not ended: something still comes through.
	goes := func(t *testing.T, v *visitor, caller net.Conn, arrived func()) {
		t.Helper()
		if _, err := caller.Write([]byte("POST ")); err != nil {
			t.Fatal(err)
		}
		arrived()
		buf := make([]byte, 10)
		if n, err := v.Read(buf); err != nil || string(buf[:n]) != "POST " {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	t.Run("it rests", func(t *testing.T) {
		v, caller, _ := visit(t)
		v.rests()
		v.leave(long, 0)
		over(t, v, caller)
	})
	t.Run("somebody waits for a call", func(t *testing.T) {
		v, caller, _ := visit(t)
		v.rests()
		read := make(chan error, 1)
		go func() {
			_, err := v.Read(make([]byte, 10))
			read <- err
		}()
		v.leave(long, 0)
		if err := <-read; !errors.Is(err, io.EOF) {
			t.Errorf("who reads is told %v", err)
		}
		over(t, v, caller)
	})
	t.Run("it has not rested for long", func(t *testing.T) {
		v, caller, arrived := visit(t)
		v.rests()
		v.leave(long, time.Minute)
		goes(t, v, caller, arrived)
	})
	t.Run("a fresh one", func(t *testing.T) {
		v, caller, arrived := visit(t)
		v.leave(long, 0)
		goes(t, v, caller, arrived)
		v.leave(long, 0) // a part of a call has come
		goes(t, v, caller, arrived)
		v.quiet = long
		v.leave(long, 0)
		over(t, v, caller)
	})
	t.Run("a call has arrived", func(t *testing.T) {
		v, caller, arrived := visit(t)
		v.rests()
		if _, err := caller.Write([]byte("POST ")); err != nil {
			t.Fatal(err)
		}
		arrived()
		v.leave(long, 0)
		buf := make([]byte, 10)
		if n, err := v.Read(buf); err != nil || string(buf[:n]) != "POST " {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		v.works()
		v.leave(long, 0)
		goes(t, v, caller, arrived)
		v.rests()
		v.leave(long, 0)
		over(t, v, caller)
	})
}

// TestVisitorReads: as a connection does.
func TestVisitorReads(t *testing.T) {
	v, caller, _ := visit(t)
	buf := make([]byte, 10)
	if err := v.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if n, err := v.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("%d bytes, %v; want the deadline", n, err)
	}
	if err := v.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := caller.(*net.TCPConn).SetLinger(0); err != nil { // its end is a reset
		t.Fatal(err)
	}
	caller.Close()
	var broken *net.OpError
	if n, err := v.Read(buf); n != 0 || !errors.Is(err, unix.ECONNRESET) || !errors.As(err, &broken) || broken.Op != "read" {
		t.Errorf("%d bytes, %v; want a reset", n, err)
	}
	v.Close()
	if n, err := v.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d bytes, %v; want that it is closed", n, err)
	}
}
