package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/router/backend"
)

// TestDegradedIsBetterThanNobody: a degraded server is asked when the fallback has
// failed; nobody pays for that twice.
func TestDegradedIsBetterThanNobody(t *testing.T) {
	for name, cloud := range map[string]func(*bench){
		"refuses":    func(b *bench) { b.cloud.behave = status(429, `{"error":{"message":"slow down"}}`) },
		"no credit":  func(b *bench) { b.cloud.behave = status(402, `{"error":{"message":"no credit"}}`) },
		"is gone":    func(b *bench) { b.cloud.CloseClientConnections(); b.cloud.Listener.Close() },
		"breaks off": func(b *bench) { b.cloud.behave = breaks },
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", stream ", stream), func(t *testing.T) {
				b := newBench(t, nil, answers)
				b.local.behave = b.local.well()
				b.state.set(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded: it is hot" })
				cloud(b)
				if r := b.chat("local/qwen", stream); r.status != 200 || r.backend() != "qwen" || r.reason() != "" {
					t.Errorf("%+v", r)
				}
				if n := len(b.cloud.calls()); n > 1 {
					t.Errorf("the cloud was asked %d times", n)
				}
			})
		}
	}
	b := newBench(t, status(500, `{"error":{"message":"hot"}}`), status(402, `{"error":{"message":"no credit"}}`))
	b.state.set(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded: it is hot" })
	if r := b.chat("local/qwen", false); r.status < 500 || !strings.Contains(r.body, "no credit") || !strings.Contains(r.body, "qwen") {
		t.Errorf("both failed: %+v", r)
	}
}

// TestPeersBytesAreNotQuoted: what a backend sent in the place of a header is not
// told to anybody, whatever it is.
func TestPeersBytesAreNotQuoted(t *testing.T) {
	for name, answer := range map[string]string{
		"a header without a colon": "HTTP/1.1 200 OK\r\nBearer " + cloudKey + "\r\n\r\n",
		"a strange length":         "HTTP/1.1 200 OK\r\nContent-Length: " + cloudKey + "\r\n\r\n",
		"no status":                "the answer is " + cloudKey + "\r\n\r\n",
		"a strange coding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + cloudKey + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, answers, raw(answer))
			r := b.chat("gpt-4o", false)
			if r.status != 502 || strings.Contains(r.body, cloudKey) || strings.Contains(b.log.String(), cloudKey) {
				t.Errorf("%+v\n%s", r, b.log)
			}
		})
	}
}
