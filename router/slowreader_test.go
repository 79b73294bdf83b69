package router

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
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
	}, answers, func(c *Config, _ map[string]models.Route) { c.IdleTimeout = 300 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"model":"local/qwen","stream":true}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	select {
	case <-b.local.gone: // the call was let go, though the client is there
	case <-time.After(20 * time.Second):
		t.Fatal("it still has its place")
	}
	for deadline := time.Now().Add(5 * time.Second); b.router.Inflight() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its call goes on")
		}
	}
}

// TestDeadlineIsTheAnswersOwn: what bounds one answer does not end the next one
// on the same connection.
func TestDeadlineIsTheAnswersOwn(t *testing.T) {
	b := newBench(t, nil, answers, func(c *Config, _ map[string]models.Route) { c.IdleTimeout = 150 * time.Millisecond })
	b.local.behave = b.local.well()
	for range 3 {
		if r := b.chat("local/qwen", true); r.status != 200 || r.readErr != nil || r.body != wholeSSE {
			t.Errorf("%+v", r)
		}
		time.Sleep(200 * time.Millisecond) // longer than the bound, as between two questions
	}
}

// TestErrorThenEndMark: an end mark does not make a stream whole whose backend has
// told of an error.
func TestErrorThenEndMark(t *testing.T) {
	failed := `data: {"error":{"message":"late"}}` + "\n\n"
	b := newBench(t, sends(ends, roleEvent, textEvent, failed, doneEvent), answers)
	r := b.chat("local/qwen", true)
	if r.body != roleEvent+textEvent+failed || !strings.Contains(b.log.String(), `"cut":"the answer was cut`) {
		t.Errorf("%q\n%s", r.body, b.log)
	}
}
