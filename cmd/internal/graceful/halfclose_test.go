package graceful

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// maxWait is how long a test waits for what has to happen, on a busy machine, too.
const maxWait = 30 * time.Second

// serve runs a server that reads the body of each request, sends it to requests, and has answer
// write its response. wrap is that of New.
func serve(t *testing.T, wrap func(net.Listener) net.Listener, answer http.HandlerFunc) (address string, requests <-chan *http.Request, d *Drainer) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan *http.Request, 100)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		arrived <- r
		answer(w, r)
	})}
	d = New(server, l, 100, false, wrap)
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Serve() }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String(), arrived, d
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(maxWait))
	return conn.(*net.TCPConn)
}

func post(t *testing.T, conn net.Conn, version string) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "POST / HTTP/%s\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", version); err != nil {
		t.Fatal(err)
	}
}

// awaitCancel waits until a request is cancelled.
func awaitCancel(t *testing.T, r *http.Request) {
	t.Helper()
	select {
	case <-r.Context().Done():
	case <-time.After(maxWait):
		t.Error("the request goes on after its client closed the connection")
	}
}

// TestHalfClosed: a client that closes its sending side gets its answer.
func TestHalfClosed(t *testing.T) {
	for name, parts := range map[string][]string{"whole": {"answer"}, "a stream": {"a", "n", "s", "wer"}} {
		t.Run(name, func(t *testing.T) {
			next := make(chan bool)
			address, requests, d := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
				for _, part := range parts {
					<-next
					_, _ = io.WriteString(w, part)
					if len(parts) > 1 {
						_ = http.NewResponseController(w).Flush()
					}
				}
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
			})
			conn := dial(t, address)
			post(t, conn, "1.1")
			<-requests
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			begin := make([]byte, len(interim)) // the server has read EOF
			if _, err := io.ReadFull(in, begin); err != nil || string(begin) != interim {
				t.Fatalf("%q, %v", begin, err)
			}
			go func() {
				for range parts {
					next <- true
				}
			}()
			resp, err := http.ReadResponse(in, nil) // reads over interim ones
			for err == nil && resp.StatusCode == http.StatusContinue {
				resp.Body.Close()
				resp, err = http.ReadResponse(in, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); string(got) != "answer" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil { // and the connection ends
				t.Errorf("%q, %v", rest, err)
			}
			for d.open() > 0 {
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// TestClosed: the request of a client that closes its connection is cancelled within
// 100 ms, whether its response has begun or not. So is one behind a proxy, which
// forwards the EOF of each side separately.
func TestClosed(t *testing.T) {
	for name, tc := range map[string]struct{ begun, proxied bool }{
		"before the response": {false, false}, "in the response": {true, false},
		"before the response, by a proxy": {false, true}, "in the response, by a proxy": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			address, requests, _ := serve(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if tc.begun {
					_, _ = io.WriteString(w, "x")
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			if tc.proxied {
				address = proxy(t, address)
			}
			best := time.Hour // of a few: the machine may be loaded
			for try := 0; try < 20 && best > 100*time.Millisecond; try++ {
				conn := dial(t, address)
				post(t, conn, "1.1")
				r := <-requests
				if tc.begun {
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				_ = conn.Close()
				awaitCancel(t, r)
				best = min(best, time.Since(began))
			}
			if best > 100*time.Millisecond {
				t.Errorf("after %s at best, want 100 ms", best)
			}
		})
	}
}

// proxy forwards bytes in both directions, and the EOF of each separately.
func proxy(t *testing.T, to string) (address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pass := func(from, to *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			_ = from.Close()
			_ = to.Close()
		}
		_ = to.CloseWrite()
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = conn.Close()
				continue
			}
			go pass(conn.(*net.TCPConn), server.(*net.TCPConn))
			go pass(server.(*net.TCPConn), conn.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// TestClosedInTwoSteps: a client closes its sending side, and later the other one.
func TestClosedInTwoSteps(t *testing.T) {
	address, requests, _ := serve(t, nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	conn := dial(t, address)
	post(t, conn, "1.1")
	r := <-requests
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 3*len(interim))); err != nil { // it is probed again
		t.Fatal(err)
	}
	if r.Context().Err() != nil {
		t.Error("cancelled while the client reads")
	}
	_ = conn.Close()
	awaitCancel(t, r)
}

// TestUnacknowledged: a client that acknowledges nothing has closed its connection.
func TestUnacknowledged(t *testing.T) {
	address, requests, d := serve(t, nil, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	conn := dial(t, address)
	post(t, conn, "1.1")
	r := <-requests
	_ = conn.CloseWrite()
	if _, err := io.ReadFull(conn, make([]byte, 3*len(interim))); err != nil { // these are acknowledged
		t.Fatal(err)
	}
	d.mu.Lock()
	for c := range d.conns {
		c.mu.Lock()
		_ = c.raw.Control(c.passEOF)
		c.mu.Unlock()
	}
	d.mu.Unlock()
	awaitCancel(t, r)
}

// TestEOFIsNotWithheld: where EOF means that the client is done.
func TestEOFIsNotWithheld(t *testing.T) {
	t.Run("HTTP/1.0", func(t *testing.T) { // which has no interim responses
		address, requests, _ := serve(t, nil, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})
		conn := dial(t, address)
		post(t, conn, "1.0")
		r := <-requests
		_ = conn.CloseWrite()
		awaitCancel(t, r)
		if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("half a body", func(t *testing.T) {
		address, _, d := serve(t, nil, func(http.ResponseWriter, *http.Request) { t.Error("it is taken for a request") })
		conn := dial(t, address)
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{")
		_ = conn.CloseWrite()
		if got, _ := io.ReadAll(conn); strings.Contains(string(got), "100 Continue") {
			t.Errorf("%q", got)
		}
		for d.open() > 0 {
			time.Sleep(time.Millisecond)
		}
	})
	t.Run("between requests", func(t *testing.T) {
		address, requests, d := serve(t, nil, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
		conn := dial(t, address)
		in := bufio.NewReader(conn)
		for range 3 {
			post(t, conn, "1.1")
			<-requests
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		_ = conn.CloseWrite()
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		for d.open() > 0 {
			time.Sleep(time.Millisecond)
		}
	})
}
