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
func (c *rawConn) call() (last bool, err error) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.from, nil)
	if err != nil {
		return false, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s %s, %w", resp.Status, body, err)
	}
	return resp.Close, nil
}

// lastCall makes a call whose answer has to close its connection.
func (c *rawConn) lastCall() error {
	c.t.Helper()
	last, err := c.call()
	if err == nil && !last {
		c.t.Error("the answer does not close its connection")
	}
	return err
}

// awaitEOF waits until llmsup closes the connection.
func (c *rawConn) awaitEOF() {
	c.t.Helper()
	if n, err := c.from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		c.t.Errorf("%d bytes, %v; want the end", n, err)
	}
}

// inGrace runs a test of the 5 s after SIGTERM in which clients may use their open connections, and runs it again if a
// call failed after most of them.
func inGrace(t *testing.T, test func() (took time.Duration, err error)) {
	t.Helper()
	const tries = 4
	for try := 1; ; try++ {
		took, err := test()
		if err == nil {
			return
		}
		if took < 4*time.Second || try == tries {
			t.Fatalf("%s after SIGTERM: %v", took, err)
		}
	}
}

// openConns makes a call on each of n new connections, and returns those.
func openConns(t *testing.T, url string, n int) []*rawConn {
	t.Helper()
	conns := make([]*rawConn, n)
	for i := range conns {
		conns[i] = dial(t, url)
		if last, err := conns[i].call(); last || err != nil {
			t.Fatalf("the answer ends its connection: %t, %v", last, err)
		}
	}
	return conns
}

// TestStopAnswersOpenConnections: a call on a connection that was accepted before the
// stop is answered, with "Connection: close".
func TestStopAnswersOpenConnections(t *testing.T) {
	inGrace(t, func() (took time.Duration, err error) {
		in := launch(t, nil, "--demo")
		fresh := dial(t, in.url)
		kept := openConns(t, in.url, 2)[0] // fresh was accepted before them
		began := time.Now()
		if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if !eventually(testTimeout, func() bool {
			conn, err := net.Dial("tcp", strings.TrimPrefix(in.url, "http://"))
			if err == nil {
				conn.Close()
			}
			return err != nil
		}) {
			t.Fatal("llmsup still listens")
		}
		kept.awaitEOF()
		if err := fresh.lastCall(); err != nil {
			return time.Since(began), err
		}
		fresh.awaitEOF()
		<-in.done
		if in.err != nil {
			t.Errorf("it ended with %v", in.err)
		}
		return 0, nil
	})
}

// TestStopLingersOnTheSocket: with a socket of systemd's, idle connections stay open for
// some seconds, so that a call on one of them is still answered.
func TestStopLingersOnTheSocket(t *testing.T) {
	t.Parallel()
	inGrace(t, func() (took time.Duration, err error) {
		m := newFakeSystemd(t)
		in := m.start(nil, "--demo")
		m.awaitMessage(in, "READY=1")
		fresh, conns := dial(t, m.url), openConns(t, m.url, 2)
		used, unused := conns[0], conns[1]
		began := time.Now()
		if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		m.awaitMessage(in, "STOPPING=1")
		if err := used.lastCall(); err != nil {
			return time.Since(began), err
		}
		used.awaitEOF()
		if err := dial(t, m.url).lastCall(); err != nil {
			return time.Since(began), err
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
		return 0, nil
	})
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
