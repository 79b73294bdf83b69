package router

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// TestReaderThatStopped: a client that reads nothing any more does not keep its
// place from others for ever.
func TestReaderThatStopped(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, textEvent); err != nil {
				return
			}
		}
	}, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 300 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"model":"local/qwen","stream":true}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	select {
	case <-b.local.gone: // the call was let go, though the client is there
	case <-time.After(waitMost):
		t.Fatal("it still has its place")
	}
	for deadline := time.Now().Add(waitMost); b.router.Inflight() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its call goes on")
		}
	}
}

// slowClient is a connection whose client takes so long for each piece.
type slowClient struct {
	http.ResponseWriter
	perPiece time.Duration
	deadline time.Time
	took     int
}

func (c *slowClient) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *slowClient) Write(p []byte) (int, error) {
	needs := time.Duration(int64(c.perPiece) * int64(len(p)) / attempt.PieceSize)
	if left := time.Until(c.deadline); !c.deadline.IsZero() && left < needs {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(needs)
	c.took += len(p)
	return c.ResponseWriter.Write(p)
}

func (c *slowClient) Flush() {}

// TestSlowReader: who reads a whole answer slowly gets all of it, however long it
// takes; who does not read is let go.
func TestSlowReader(t *testing.T) {
	const idle = 2 * time.Minute
	text := []byte(`{"x":"` + strings.Repeat("x", 3<<20) + `"}`)
	for name, tc := range map[string]struct {
		held, rest []byte
		perPiece   time.Duration
		whole      bool
	}{
		"slow":                   {text, nil, idle * 9 / 10, true},
		"slow, a body too large": {make([]byte, aggregate.MaxBytes), text, idle * 9 / 10, true},
		"stopped":                {text, nil, 2 * idle, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &slowClient{ResponseWriter: httptest.NewRecorder(), perPiece: tc.perPiece}
				body := append(slices.Clone(tc.held), tc.rest...)
				began, err := relayed(t, c, &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body))}, wire.Generic{}, idle)
				if want := len(tc.held) + len(tc.rest); (err == nil) != tc.whole || tc.whole && c.took != want {
					t.Errorf("%d bytes, %v", c.took, err)
				}
				if !tc.whole && time.Since(began) > 2*idle {
					t.Errorf("let go after %s", time.Since(began))
				}
			})
		})
	}
}

// TestReaderThatStopsBeforeTheEnd: a client that does not read the last few KB, which
// net/http writes after the call, keeps its connection no longer than another one.
func TestReaderThatStopsBeforeTheEnd(t *testing.T) {
	whole := strings.Replace(wholeChat, " 1 2 3", strings.Repeat("x", 5000), 1)
	b := newBench(t, status(200, whole), answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 300 * time.Millisecond })
	ours, theirs := net.Pipe() // without buffers
	closed := make(chan struct{})
	server := &http.Server{Handler: b.router, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}}
	l := &oneConn{conn: ours, closed: make(chan struct{})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); _ = theirs.Close() })
	const body = `{"model":"local/qwen"}`
	fmt.Fprintf(theirs, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := io.ReadFull(theirs, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(waitMost):
		t.Fatal("its connection is still waited for")
	}
}

// TestLargeAnswerThatStalls: a backend that falls silent in the middle of an answer too
// large to be held is given up, as it would be in a stream.
func TestLargeAnswerThatStalls(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		piece := bytes.Repeat([]byte(" "), 1<<20)
		for range aggregate.MaxBytes>>20 + 1 {
			_, _ = w.Write(piece)
		}
		_ = http.NewResponseController(w).Flush()
		hangs(w, r)
	}, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 2 * time.Second })
	done := make(chan reply, 1)
	go func() { done <- b.post("/v1/embeddings", `{"model":"local/alone","input":"x"}`) }()
	select {
	case r := <-done:
		if r.readErr == nil || !strings.Contains(b.log.String(), attempt.ErrStalled.Error()) {
			t.Errorf("%d bytes, %v\n%s", len(r.body), r.readErr, b.log)
		}
	case <-time.After(waitMost):
		t.Fatal("it is waited for")
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestDeadlineIsTheAnswersOwn: what bounds one answer does not end the next one
// on the same connection.
func TestDeadlineIsTheAnswersOwn(t *testing.T) {
	b := newBench(t, nil, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 150 * time.Millisecond })
	b.local.behave = b.local.well()
	for range 3 {
		if r := b.chat("local/qwen", true); r.status != 200 || r.readErr != nil || r.body != wholeSSE {
			t.Errorf("%+v", r)
		}
		time.Sleep(200 * time.Millisecond) // longer than the bound, as between two questions
	}
}
