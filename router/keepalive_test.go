package router

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/plan"
)

// idleServer answers calls over connections that it leaves to llmsup to close. An answer's header
// has keepAlive, unless it is empty.
type idleServer struct {
	url       string
	opened    atomic.Int32
	closed    chan idleEnd
	keepAlive string
}

// idleEnd is how a connection ended: llmsup closed it after it was idle for so long, or an error.
type idleEnd struct {
	idle time.Duration
	err  error
}

func newIdleServer(t *testing.T, keepAlive string) *idleServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &idleServer{url: "http://" + l.Addr().String(), keepAlive: keepAlive, closed: make(chan idleEnd, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			go func() { s.closed <- s.serve(conn) }()
		}
	}()
	return s
}

// serve answers calls until llmsup closes their connection.
func (s *idleServer) serve(conn net.Conn) idleEnd {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for since := time.Now(); ; since = time.Now() {
		_ = conn.SetReadDeadline(since.Add(waitLimit))
		req, err := http.ReadRequest(in)
		if errors.Is(err, io.EOF) {
			return idleEnd{idle: time.Since(since)}
		}
		if err != nil {
			return idleEnd{err: err}
		}
		_, _ = io.Copy(io.Discard, req.Body)
		header := ""
		if s.keepAlive != "" {
			header = "Keep-Alive: " + s.keepAlive + "\r\n"
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", header, len(wholeChat), wholeChat)
	}
}

// TestIdleConnections: llmsup closes an idle connection before the upstream does, so
// that no call meets the close.
func TestIdleConnections(t *testing.T) {
	for name, tc := range map[string]struct {
		limit     time.Duration
		keepAlive string
		kept      bool // a second call uses the connection of the first
	}{
		"many servers' limit":   {5 * time.Second, "", true},
		"more than is kept":     {5 * time.Second, "timeout=72", true},
		"what is kept":          {5 * time.Second, "timeout=5, max=100", true},
		"less than is kept":     {4 * time.Second, "timeout=4", true},
		"much less":             {2 * time.Second, "max=100, Timeout=2", true},
		"too little to be kept": {time.Second, "timeout=1", false},
		"nothing":               {time.Second, "timeout=0", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newIdleServer(t, tc.keepAlive)
			b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].BaseURL = s.url })
			for round := 1; ; round++ {
				opened, idle := s.idleAfterCalls(t, b)
				if (opened < 3) == tc.kept && idle < tc.limit {
					return
				}
				if round == 5 { // a busy machine may be late with calls, or with closing
					t.Fatalf("3 calls took %d connections, which were idle for %s at most", opened, idle)
				}
			}
		})
	}
}

// idleAfterCalls makes three calls. It returns how many connections they took, and for how long one
// was idle at most before llmsup closed it.
func (s *idleServer) idleAfterCalls(t *testing.T, b *fixture) (opened int32, idle time.Duration) {
	t.Helper()
	before := s.opened.Load()
	// The connection of the first call may end with it, if it states the limit.
	for range 3 {
		if r := b.chat("gpt-4o", false); r.status != 200 || r.body != wholeChat {
			t.Fatalf("%+v", r)
		}
	}
	opened = s.opened.Load() - before
	for range opened {
		select {
		case end := <-s.closed:
			if end.err != nil {
				t.Errorf("llmsup has not closed a connection: %v", end.err)
			}
			idle = max(idle, end.idle)
		case <-time.After(2 * waitLimit):
			t.Fatal("a connection is still open")
		}
	}
	return opened, idle
}

// TestIdleConnectionsOfHTTP2: the same for HTTP/2, which has no Keep-Alive.
func TestIdleConnectionsOfHTTP2(t *testing.T) {
	t.Parallel()
	answered := make(chan time.Time, 1)
	gone := make(chan time.Time, 1)
	b := newHTTP2Upstream(t, func(f *http2.Framer, stream uint32) error {
		head := []byte{0x88} // HPACK: ":status: 200"
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head, EndHeaders: true}); err != nil {
			return err
		}
		if err := f.WriteData(stream, true, []byte(wholeChat)); err != nil {
			return err
		}
		answered <- time.Now()
		for {
			if _, err := f.ReadFrame(); err != nil {
				gone <- time.Now()
				return err
			}
		}
	})
	if r := b.chat("gpt-4o", false); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	select {
	case at := <-gone:
		if idle := at.Sub(<-answered); idle > 5*time.Second {
			t.Errorf("closed after %s", idle)
		}
	case <-time.After(waitLimit):
		t.Error("the connection is still open")
	}
}
