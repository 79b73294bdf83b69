package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// caller is a connection without a client that would repeat anything.
type caller struct {
	t    *testing.T
	conn net.Conn
	from *bufio.Reader
}

func dial(t *testing.T, url string) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &caller{t, conn, bufio.NewReader(conn)}
}

// asks makes a call, and returns whether its answer ends the connection.
func (c *caller) asks() (last bool) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s, %v", resp.Status, body, err)
	}
	return resp.Close
}

// ends waits for the connection's end.
func (c *caller) ends() {
	c.t.Helper()
	if n, err := c.from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		c.t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

// TestStopTakesCallsOfOpenConnections: whoever was let in before a stop is
// answered, and told that the connection ends with that.
func TestStopTakesCallsOfOpenConnections(t *testing.T) {
	in := launch(t, nil, "--demo")
	kept, fresh := dial(t, in.url), dial(t, in.url)
	for _, c := range []*caller{kept, dial(t, in.url)} { // fresh has come before the second
		if c.asks() {
			t.Error("an answer ends its connection")
		}
	}
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	in.await("stopping", func(control.Server) bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(in.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	kept.ends()
	if !fresh.asks() {
		t.Error("the answer does not end its connection")
	}
	fresh.ends()
	<-in.done
	if in.err != nil {
		t.Errorf("it ended with %v", in.err)
	}
}

// TestStopLingersOnTheSocket: systemd keeps the socket, so connections that are
// kept may be used for some more time, and the others are closed after it.
func TestStopLingersOnTheSocket(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	in := m.start(nil, "--demo")
	m.awaitMessage(in, "READY=1")
	used, unused, fresh := dial(t, m.url), dial(t, m.url), dial(t, m.url)
	used.asks()
	unused.asks()
	began := time.Now()
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.awaitMessage(in, "STOPPING=1")
	if !used.asks() {
		t.Error("the answer does not end its connection")
	}
	used.ends()
	if !dial(t, m.url).asks() {
		t.Error("a new connection is not told to end")
	}
	unused.ends()
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("a connection that rested was closed after %s", took)
	}
	fresh.ends()
	<-in.done
	if in.err != nil {
		t.Errorf("it ended with %v", in.err)
	}
}

// TestHalfClosedClient: a client that closes its sending side once it has made its
// call, as some that use a pipe do, gets its answer.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo", "--", "--threads", "1")
	in.awaitReady()
	for _, stream := range []bool{false, true} {
		c := dial(t, in.url)
		body := fmt.Sprintf(`{"model":"local","stream":%t,"max_tokens":300,"messages":[{"role":"user","content":"count"}]}`, stream)
		fmt.Fprintf(c.conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for final := false; !final; {
			resp, err := http.ReadResponse(c.from, nil)
			if err != nil {
				t.Fatalf("stream %t: no answer: %v", stream, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if final = resp.StatusCode != http.StatusContinue; final && (resp.StatusCode != http.StatusOK || err != nil || !strings.Contains(string(got), "length")) {
				t.Errorf("stream %t: %d %s, %v", stream, resp.StatusCode, got, err)
			}
		}
		c.ends()
	}
}
