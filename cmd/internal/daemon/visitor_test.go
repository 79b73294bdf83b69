package daemon

import (
	"context"
	"errors"
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
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if caller, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { caller.Close() })
	conn, err := visitors{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	v = conn.(*visitor)
	return v, caller, func() {
		t.Helper()
		raw, err := v.Conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
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
	buf := make([]byte, 10)

	t.Run("it rests", func(t *testing.T) {
		v, _, _ := visit(t)
		v.leave(long, 0)
		if v.leaving {
			t.Error("a fresh one is ended at once")
		}
		v.fresh = false
		v.quiet = time.Now()
		v.leave(long, time.Minute)
		if v.leaving {
			t.Error("it has rested for no minute")
		}
		read := make(chan error, 1)
		go func() {
			_, err := v.Read(buf)
			read <- err
		}()
		v.leave(long, 0)
		if err := v.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // by a server that has heard nothing
			t.Fatal(err)
		}
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who reads is told %v", err)
		}
	})
	t.Run("a fresh one rests", func(t *testing.T) {
		v, _, _ := visit(t)
		v.quiet = long
		v.leave(long, 0)
		if _, err := v.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who reads is told %v", err)
		}
	})
	t.Run("part of a call rests", func(t *testing.T) {
		v, caller, arrived := visit(t)
		v.rests()
		if _, err := caller.Write([]byte("PO")); err != nil {
			t.Fatal(err)
		}
		arrived()
		if n, err := v.Read(buf); n != 2 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		v.leave(long, 0)
		if v.leaving {
			t.Error("it is ended at once")
		}
		v.quiet = long
		v.leave(long, 0)
		if _, err := v.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("who reads is told %v", err)
		}
	})
	t.Run("a call has arrived", func(t *testing.T) {
		v, caller, arrived := visit(t)
		v.fresh = false
		if err := v.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := caller.Write([]byte("POST ")); err != nil {
			t.Fatal(err)
		}
		arrived()
		v.leave(long, 0)
		if !v.leaving {
			t.Fatal("it stays, though nobody knows of the call")
		}
		if n, err := v.Read(buf); err != nil || string(buf[:n]) != "POST " {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		v.leave(long, 0)
		if v.leaving {
			t.Error("it is ended while a call comes")
		}
		v.works()
		v.leave(long, 0)
		if _, err := caller.Write([]byte("/v1")); err != nil {
			t.Fatal(err)
		}
		if n, err := v.Read(buf); err != nil || string(buf[:n]) != "/v1" {
			t.Errorf("the rest of it: %q, %v", buf[:n], err)
		}
		if v.leaving || !v.quiet.IsZero() {
			t.Error("it is ended while a call is under way")
		}
		v.rests()
		v.leave(long, 0)
		if _, err := v.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after its answer who reads is told %v", err)
		}
	})
}
