package graceful

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// overTLS returns what wraps a listener with TLS, and what makes a client's connection one of TLS.
func overTLS(t *testing.T) (wrap func(net.Listener) net.Listener, client func(net.Conn) *tls.Conn) {
	t.Helper()
	s := httptest.NewTLSServer(nil) // it has a certificate
	s.Close()
	wrap = func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: s.TLS.Certificates})
	}
	trusted := s.Client().Transport.(*http.Transport).TLSClientConfig
	return wrap, func(conn net.Conn) *tls.Conn {
		return tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted.RootCAs, ServerName: "example.com"})
	}
}

// TestOverTLS: over TLS, a client that closes its connection, in whatever way, has its request
// cancelled within 100 ms, and nothing is written below TLS.
func TestOverTLS(t *testing.T) {
	wrap, client := overTLS(t)
	for name, tc := range map[string]struct {
		begun bool
		close func(*tls.Conn) error
	}{
		"before the response":  {false, (*tls.Conn).Close},
		"in the response":      {true, (*tls.Conn).Close},
		"killed":               {false, func(c *tls.Conn) error { return c.NetConn().Close() }},
		"killed, in an answer": {true, func(c *tls.Conn) error { return c.NetConn().Close() }},
		"its sending side":     {false, (*tls.Conn).CloseWrite},
		"that of TCP":          {false, func(c *tls.Conn) error { return c.NetConn().(*net.TCPConn).CloseWrite() }},
	} {
		t.Run(name, func(t *testing.T) {
			address, requests, _ := serve(t, wrap, func(w http.ResponseWriter, r *http.Request) {
				if tc.begun {
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			})
			best := time.Hour // of a few: the machine may be loaded
			for try := 0; try < 20 && best > 100*time.Millisecond; try++ {
				conn := client(dial(t, address))
				post(t, conn, "1.1")
				r := <-requests
				if tc.begun {
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				if err := tc.close(conn); err != nil {
					t.Fatal(err)
				}
				awaitCancel(t, r)
				best = min(best, time.Since(began))
				if rest, _ := io.ReadAll(conn.NetConn()); len(rest) > 0 && rest[0] != 21 && rest[0] != 23 { // an alert, or data
					t.Errorf("%q was written below TLS", rest)
				}
			}
			if best > 100*time.Millisecond {
				t.Errorf("after %s at best, want 100 ms", best)
			}
		})
	}
}

// TestDrainOverTLS: a stop waits for the request in flight, whose response announces that the
// connection closes, and closes idle connections.
func TestDrainOverTLS(t *testing.T) {
	wrap, client := overTLS(t)
	next := make(chan bool)
	address, requests, d := serve(t, wrap, func(w http.ResponseWriter, r *http.Request) {
		<-next
		_, _ = io.WriteString(w, "answer")
	})
	ask := func(conn net.Conn) *bufio.Reader { post(t, conn, "1.1"); <-requests; return bufio.NewReader(conn) }
	answer := func(in *bufio.Reader) {
		t.Helper()
		next <- true
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "answer" {
			t.Errorf("%q, %v", body, err)
		}
		resp.Body.Close()
	}
	idle, busy := client(dial(t, address)), client(dial(t, address))
	answer(ask(idle))
	in := ask(busy)
	answer(in)
	ask(busy)
	ctx, cancel := context.WithTimeout(t.Context(), maxWait)
	defer cancel()
	drained := make(chan bool)
	d.Begin()
	go func() { defer close(drained); d.Drain(ctx) }()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection is not closed")
	}
	answer(in)
	<-drained
	if ctx.Err() != nil || d.open() != 0 {
		t.Errorf("Drain ended with %v and %d connections", ctx.Err(), d.open())
	}
}
