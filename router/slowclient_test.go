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

// TestStoppedReaderIsCancelled: a client that stops reading keeps its slot for the idle
// time only.
func TestStoppedReaderIsCancelled(t *testing.T) {
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
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
	case <-b.local.requestEnded: // the call was cancelled, though the client is connected
	case <-time.After(waitLimit):
		t.Fatal("the call still has its slot")
	}
	b.waitIdle()
}

// slowClient is a connection whose client takes this long for each chunk.
type slowClient struct {
	http.ResponseWriter
	perChunk time.Duration
	deadline time.Time
	written  int
}

func (c *slowClient) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *slowClient) Write(p []byte) (int, error) {
	needs := time.Duration(int64(c.perChunk) * int64(len(p)) / attempt.PieceSize)
	if left := time.Until(c.deadline); !c.deadline.IsZero() && left < needs {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(needs)
	c.written += len(p)
	return c.ResponseWriter.Write(p)
}

func (c *slowClient) Flush() {}

// TestSlowReader: a client that reads slowly receives the whole answer; one that stops
// reading is cancelled.
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
				c := &slowClient{ResponseWriter: httptest.NewRecorder(), perChunk: tc.perPiece}
				body := append(slices.Clone(tc.held), tc.rest...)
				began, err := relayResponse(t, c, &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body))}, wire.Generic{}, idle)
				if want := len(tc.held) + len(tc.rest); (err == nil) != tc.whole || tc.whole && c.written != want {
					t.Errorf("%d bytes, %v", c.written, err)
				}
				if !tc.whole && time.Since(began) > 2*idle {
					t.Errorf("cancelled after %s", time.Since(began))
				}
			})
		})
	}
}

// TestReaderStopsBeforeLastBytes: net/http writes the last few KB after the call. A client
// that does not read them keeps its connection no longer than any other.
func TestReaderStopsBeforeLastBytes(t *testing.T) {
	t.Parallel()
	whole := strings.Replace(wholeChat, " 1 2 3", strings.Repeat("x", 5000), 1)
	b := newFixture(t, status(200, whole), answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 5 * time.Second })
	ours, theirs := net.Pipe() // without buffers
	closed := make(chan struct{})
	server := &http.Server{Handler: b.router, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}}
	l := &singleConnListener{conn: ours, closed: make(chan struct{})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); _ = theirs.Close() })
	const body = `{"model":"local/qwen"}`
	fmt.Fprintf(theirs, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	if _, err := io.ReadFull(theirs, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
	case <-time.After(waitLimit):
		t.Fatal("the connection is still open")
	}
}

// TestLargeAnswerStalls: a backend that stalls in the middle of an answer too large to be
// held is cancelled, as in a stream.
func TestLargeAnswerStalls(t *testing.T) {
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		piece := bytes.Repeat([]byte(" "), 1<<20)
		for range aggregate.MaxBytes>>20 + 1 {
			_, _ = w.Write(piece)
		}
		_ = http.NewResponseController(w).Flush()
		hangs(w, r)
	}, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 5 * time.Second })
	done := make(chan reply, 1)
	go func() { done <- b.post("/v1/embeddings", `{"model":"local/alone","input":"x"}`) }()
	select {
	case r := <-done:
		if r.readErr == nil || !strings.Contains(b.log.String(), attempt.ErrStalled.Error()) {
			t.Errorf("%d bytes, %v\n%s", len(r.body), r.readErr, b.log)
		}
	case <-time.After(4 * waitLimit): // there are many MB to send
		t.Fatal("the call still waits")
	}
}

// singleConnListener is a listener with one connection.
type singleConnListener struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *singleConnListener) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *singleConnListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *singleConnListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestWriteDeadlineIsReset: the write deadline of one answer does not end the next one on
// the same connection.
func TestWriteDeadlineIsReset(t *testing.T) {
	t.Parallel()
	const idle = 5 * time.Second
	b := newFixture(t, nil, answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = idle })
	b.local.handler = b.local.answersInKind()
	for call := range 2 {
		if call > 0 {
			outlast(idle) // as between two questions
		}
		if r := b.chat("local/qwen", true); r.status != 200 || r.readErr != nil || r.body != wholeSSE {
			t.Errorf("%+v", r)
		}
	}
}

// TestClientNotReadingIsNotWaiting: a call whose client does not read does not count as
// waiting for the backend.
func TestClientNotReadingIsNotWaiting(t *testing.T) {
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, textEvent); err != nil {
				return
			}
		}
	}, answers)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"model":"local/qwen","stream":true}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	steady := 0 // how often in a row the call did not count as waiting for the backend
	eventually(t, "the call waits for its client only", func() bool {
		now := b.router.Load("qwen")
		if steady++; now.Calls != 1 || now.Waiting != 0 || now.Bytes == 0 {
			steady = 0
		}
		return steady == 100
	})
	conn.Close()
	b.waitIdle()
	if now := b.router.Load("qwen"); now.Calls != 0 || now.Waiting != 0 {
		t.Errorf("at the end: %+v", now)
	}
}
