package router

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestErrorBehindTheEnd: a stream that is whole stays so, whatever comes after it.
func TestErrorBehindTheEnd(t *testing.T) {
	last := strings.Replace(finished("stop"), "gen-9", "chatcmpl-1", 1)
	for name, edit := range map[string]func(*plan.Config, map[string]models.Route){
		"resuming": resuming, "not": func(*plan.Config, map[string]models.Route) {},
	} {
		b := newBench(t, sends(ends, opening, said(" 1"), last, doneEvent, `data: {"error":{"message":"late"}}`+"\n\n"), answers, edit)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
		if r.readErr != nil || textOf(t, r.body) != " 1" || strings.Contains(b.log.String(), `"cut"`) {
			t.Errorf("%s: %v %s", name, r.readErr, r.body)
		}
	}
}

// TestBrokenIsLetGo: a backend whose stream somebody else goes on with does not work
// for it any longer.
func TestBrokenIsLetGo(t *testing.T) {
	b := newBench(t, sends(hangs, opening, said(" 1"), `data: {"error":{"message":"upset"}}`+"\n\n"), sends(hangs, roleEvent, textEvent), resuming)
	resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case <-b.local.gone:
	case <-time.After(waitMost):
		t.Error("it still works for a stream that is another one's")
	}
}

// TestResumedByAServer: a local server that goes on with another one's stream is
// seen at work, and is not held to account for a client that does not read.
func TestResumedByAServer(t *testing.T) {
	second := newPeer(t, nil)
	spare := &fakeLocal{state: backend.LocalState{Alive: true, Network: "tcp", Address: second.Listener.Addr().String(), Gone: make(chan struct{})}}
	b := newBench(t, sends(breaks, opening, said(" 1")), answers, func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["spare"] = spare
		routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "spare", Resume: true, Timeout: time.Minute}
	})
	stop := make(chan struct{})
	second.behave = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for large := said(strings.Repeat("x", 64<<10)); ; { // more than the sockets' buffers hold
			select {
			case <-stop:
				_, _ = io.WriteString(w, finished("stop")+doneEvent)
				return
			default:
			}
			if _, err := io.WriteString(w, large); err != nil {
				return
			}
		}
	}
	resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for deadline := time.Now().Add(waitMost); ; time.Sleep(time.Millisecond) {
		if now := b.router.Load("spare"); now.Calls == 1 && now.Waiting == 0 && now.Bytes > 128<<10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", b.router.Load("spare"))
		}
	}
	close(stop)
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), doneEvent) {
		t.Errorf("%v", err)
	}
}
