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

// rawConn is a connection without an HTTP client, which could repeat calls.
type rawConn struct {
	t    *testing.T
	conn net.Conn
	from *bufio.Reader
}

func dial(t *testing.T, url string) *rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{t, conn, bufio.NewReader(conn)}
}

// call makes a call and returns whether its answer closes the connection.
func (c *rawConn) call() (last bool) {
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

// awaitEOF waits until llmsup closes the connection.
func (c *rawConn) awaitEOF() {
	c.t.Helper()
	if n, err := c.from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		c.t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

// TestStopAnswersOpenConnections: a call on a connection that was accepted before the
// stop is answered, with "Connection: close".
func TestStopAnswersOpenConnections(t *testing.T) {
	in := launch(t, nil, "--demo")
	kept, fresh := dial(t, in.url), dial(t, in.url)
	for _, c := range []*rawConn{kept, dial(t, in.url)} { // fresh has come before the second
		if c.call() {
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
	kept.awaitEOF()
	if !fresh.call() {
		t.Error("the answer does not end its connection")
	}
	fresh.awaitEOF()
	<-in.done
	if in.err != nil {
		t.Errorf("it ended with %v", in.err)
	}
}

// TestStopLingersOnTheSocket: with a socket of systemd's, idle connections stay open for
// some seconds, so that a call on one of them is still answered.
func TestStopLingersOnTheSocket(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	in := m.start(nil, "--demo")
	m.awaitMessage(in, "READY=1")
	used, unused, fresh := dial(t, m.url), dial(t, m.url), dial(t, m.url)
	used.call()
	unused.call()
	began := time.Now()
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.awaitMessage(in, "STOPPING=1")
	if !used.call() {
		t.Error("the answer does not end its connection")
	}
	used.awaitEOF()
	if !dial(t, m.url).call() {
		t.Error("the answer on a new connection does not close it")
	}
	unused.awaitEOF()
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("an idle connection was closed after %s", took)
	}
	fresh.awaitEOF()
	<-in.done
	if in.err != nil {
		t.Errorf("it ended with %v", in.err)
	}
}

// TestHalfClosedClient: a client that closes its sending side after the request gets its
// answer.
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
		c.awaitEOF()
	}
}
