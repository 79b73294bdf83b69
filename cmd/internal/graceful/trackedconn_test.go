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

// connect returns both ends of a connection, and a function that waits until bytes have
// arrived at the server's.
func connect(t *testing.T) (c *trackedConn, client net.Conn, arrived func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	conn, err := track(l, 1).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c = conn.(*trackedConn)
	return c, client, func() {
		t.Helper()
		if err := c.raw.Control(func(fd uintptr) {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000); n != 1 || err != nil {
				t.Errorf("nothing has arrived: %v", err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCloseIdle: an idle connection is closed, unless a part of a request has arrived,
// whether it has been read or not.
func TestCloseIdle(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	closed := func(t *testing.T, c *trackedConn, client net.Conn) {
		t.Helper()
		for _, end := range []net.Conn{c, client} {
			if n, err := end.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("%d bytes, %v; want EOF", n, err)
			}
		}
	}
	// isOpen checks that the connection is not closed: bytes still arrive.
	isOpen := func(t *testing.T, c *trackedConn, client net.Conn, arrived func()) {
		t.Helper()
		if _, err := client.Write([]byte("POST ")); err != nil {
			t.Fatal(err)
		}
		arrived()
		buf := make([]byte, 10)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "POST " {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	t.Run("idle", func(t *testing.T) {
		c, client, _ := connect(t)
		c.setIdle()
		c.closeIdle(long, 0)
		closed(t, c, client)
	})
	t.Run("idle in Read", func(t *testing.T) {
		c, client, _ := connect(t)
		c.setIdle()
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 10))
			read <- err
		}()
		c.closeIdle(long, 0)
		if err := <-read; !errors.Is(err, io.EOF) {
			t.Errorf("Read returned %v, want EOF", err)
		}
		closed(t, c, client)
	})
	t.Run("not idle for long", func(t *testing.T) {
		c, client, arrived := connect(t)
		c.setIdle()
		c.closeIdle(long, time.Minute)
		isOpen(t, c, client, arrived)
	})
	t.Run("awaiting its first request", func(t *testing.T) {
		c, client, arrived := connect(t)
		c.closeIdle(long, 0)
		isOpen(t, c, client, arrived)
		c.closeIdle(long, 0) // a part of a request has arrived
		isOpen(t, c, client, arrived)
		c.idleSince = long
		c.closeIdle(long, 0)
		closed(t, c, client)
	})
	t.Run("a request has been read before the last one ended", func(t *testing.T) { // by TLS
		c, client, arrived := connect(t)
		c.setActive()
		if _, err := c.Write([]byte("HTTP/1.1 200 OK")); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		isOpen(t, c, client, arrived)
		c.setIdle()
		c.closeIdle(long, 0)
		isOpen(t, c, client, arrived)
		c.setActive()
		c.setIdle()
		c.closeIdle(long, 0)
		closed(t, c, client)
	})
	t.Run("a request has arrived", func(t *testing.T) {
		c, client, arrived := connect(t)
		c.setIdle()
		if _, err := client.Write([]byte("POST ")); err != nil {
			t.Fatal(err)
		}
		arrived()
		c.closeIdle(long, 0)
		buf := make([]byte, 10)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != "POST " {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		c.setActive()
		c.closeIdle(long, 0)
		isOpen(t, c, client, arrived)
		c.setIdle()
		c.closeIdle(long, 0)
		closed(t, c, client)
	})
}

// TestRead: it returns the errors that a TCP connection returns.
func TestRead(t *testing.T) {
	c, client, _ := connect(t)
	buf := make([]byte, 10)
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("%d bytes, %v; want the deadline", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).SetLinger(0); err != nil { // Close sends a reset
		t.Fatal(err)
	}
	client.Close()
	var broken *net.OpError
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, unix.ECONNRESET) || !errors.As(err, &broken) || broken.Op != "read" {
		t.Errorf("%d bytes, %v; want a reset", n, err)
	}
	c.Close()
	if n, err := c.Read(buf); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d bytes, %v; want that it is closed", n, err)
	}
}
