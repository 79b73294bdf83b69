package router

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestCutAnywhere ends a stream at every byte, as cleanly as a proxy can. The
// client sees it as whole only if it is.
func TestCutAnywhere(t *testing.T) {
	const anthropic = "event: content_block_delta\n" + `data: {"type":"content_block_delta","delta":{"text":"x"}}` + "\n\nevent: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
	const openai = `data: {"type":"response.output_text.delta","delta":"x"}` + "\n\nevent: response.completed\n" + `data: {"type":"response.completed","response":{"usage":{"output_tokens":1}}}` + "\n\n"
	for path, stream := range map[string]string{"/v1/chat/completions": wholeSSE, "/v1/messages": anthropic, "/v1/responses": openai} {
		t.Run(path, func(t *testing.T) {
			var cut string
			b := newBench(t, func(w http.ResponseWriter, r *http.Request) { sends(ends, cut)(w, r) }, nil)
			b.cloud.behave = sends(ends, "event: fallback\n", stream)
			for n := range len(stream) {
				cut = stream[:n]
				r := b.post(path, `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true}}`)
				switch {
				case r.backend() == "openrouter":
					if r.readErr != nil || !strings.HasSuffix(r.body, stream) {
						t.Errorf("cut at %d: the fallback's answer is %q, %v", n, r.body, r.readErr)
					}
				case r.readErr == nil && strings.HasSuffix(cut, "\n\n") && strings.Contains(cut, `"finish_reason":"stop"`): // complete but for the end mark
				case r.readErr == nil:
					if left := strings.TrimSpace(stream[n:]); left != "" { // more than the last empty line is missing
						t.Errorf("cut at %d, before %q: a clean end", n, left)
					}
				default:
					events := strings.Split(strings.TrimSpace(r.body), "\n\n")
					last := events[len(events)-1]
					if data := last[strings.Index(last, "data: ")+len("data: "):]; !gjson.Valid(data) || !strings.Contains(data, "broke its answer off") {
						t.Errorf("cut at %d: the last event is %q, want an error event", n, last)
					}
				}
			}
		})
	}
}

func TestStreamMayOutliveItsTimeout(t *testing.T) {
	var r reply
	inTime(true, func(timeout time.Duration) bool {
		b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
			sends(ends, textEvent)(w, r)
			time.Sleep(timeout + 100*time.Millisecond) // the timeout is to the first answer
			_, _ = io.WriteString(w, finalEvent+doneEvent)
		}, answers, short(timeout))
		r = b.chat("local/qwen", true)
		return r.backend() == "qwen"
	})
	if r.readErr != nil || r.body != textEvent+finalEvent+doneEvent {
		t.Errorf("%q, %v", r.body, r.readErr)
	}
}

// TestEndThatIsTheFirstAnswer: the backend keeps the connection open after it.
func TestEndThatIsTheFirstAnswer(t *testing.T) {
	const completed = "event: response.completed\n" + `data: {"type":"response.completed","response":{}}` + "\n\n"
	b := newBench(t, sends(hangs, completed), answers, short(time.Minute))
	done := make(chan reply, 1)
	go func() {
		done <- b.post("/v1/responses", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true}}`)
	}()
	select {
	case r := <-done:
		if r.readErr != nil || r.body != completed {
			t.Errorf("%q, %v", r.body, r.readErr)
		}
	case <-time.After(waitMost):
		t.Fatal("the client still waits for the end of a stream that is whole")
	}
}

// TestOddStatuses: what is no answer and no error is not handed on.
func TestOddStatuses(t *testing.T) {
	for name, behave := range map[string]http.HandlerFunc{
		"042":          hijack("HTTP/1.1 042 Odd\r\nContent-Length: 0\r\n\r\n"),
		"304":          hijack("HTTP/1.1 304 Not Modified\r\n\r\n"),
		"302 and away": status(302, "", "Location", "http://127.0.0.1:1/v1"),
		"999":          hijack("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, answers, behave)
			if r := b.chat("gpt-4o", false); r.status != 502 || r.header.Get("Location") != "" || gjson.Get(r.body, "error.code").Str != "status" {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
}

// TestRedirectsAreNotFollowed: the key would go along.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newPeer(t, answers)
	b := newBench(t, answers, status(307, "", "Location", elsewhere.URL))
	if r := b.chat("gpt-4o", false); r.status != 502 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if n := len(elsewhere.calls()); n != 0 {
		t.Errorf("the redirect was followed %d times", n)
	}
}

// TestHalfClosedClient: net/http takes a client that closes its sending side for one
// that has left, unless the connection holds that back, as the daemon's do. The client
// must not read an empty 200.
func TestHalfClosedClient(t *testing.T) {
	b := newBench(t, hangs, answers, short(time.Minute))
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"model":"local/qwen"}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for len(b.local.calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("it read %q, %v", got, err)
	}
	if n := len(b.cloud.calls()); n != 0 {
		t.Errorf("the fallback was asked %d times", n)
	}
}

// TestWordsOfBackends: a backend's error may quote the prompt, or a key. The
// caller whose call it was is told; the log is not, and a key nobody.
func TestWordsOfBackends(t *testing.T) {
	const quoting = `{"error":{"message":"can't parse: MY PROMPT, key ` + cloudKey + `","type":"server_error"}}`
	for name, behave := range map[string]http.HandlerFunc{
		"error": status(500, quoting), "200": status(200, quoting), "stream": sends(ends, "data: "+quoting+"\n\n"),
		"late": sends(ends, textEvent, "data: "+quoting+"\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, behave, behave)
			r := b.chat("local/qwen", strings.Contains(name, "a"))
			if name != "late" && (!strings.Contains(r.body, "MY PROMPT") || strings.Contains(r.body, cloudKey) && !strings.Contains(r.body, "[key]")) {
				t.Errorf("the caller is told %s", r.body)
			}
			if log := b.log.String(); strings.Contains(log, "MY PROMPT") || strings.Contains(log, cloudKey) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// TestLargeAnswers: what is too large to be held back is passed on as it comes,
// and a cut in it is seen.
func TestLargeAnswers(t *testing.T) {
	large := `{"data":"` + strings.Repeat("x", aggregate.MaxBytes+1<<20) + `"}`
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		whole  bool
	}{
		"whole": {status(200, large), true},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, large[:len(large)-100])
			panic(http.ErrAbortHandler)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.behave, answers)
			r := b.post("/v1/embeddings", `{"model":"local/qwen"}`)
			if (r.readErr == nil) != tc.whole || tc.whole && r.body != large {
				t.Errorf("%d bytes, %v", len(r.body), r.readErr)
			}
		})
	}
}

// TestDegradedFallback: a degraded server is better than no answer.
func TestDegradedFallback(t *testing.T) {
	b := newBench(t, answers, status(503, `{}`), func(_ *plan.Config, routes map[string]models.Route) {
		routes["cloud-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Second}
	})
	b.state.set(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	if r := b.chat("cloud-first", false); r.status != 200 || r.backend() != "qwen" || r.reason() != "status" {
		t.Errorf("%d %s from %q (%s)", r.status, r.body, r.backend(), r.reason())
	}
}

// TestClientThatDoesNotRead: its call is not held against the backend.
func TestClientThatDoesNotRead(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
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
	deadline := time.Now().Add(waitMost)
	for stuck := 0; stuck < 20; time.Sleep(5 * time.Millisecond) {
		now := b.router.Load("qwen")
		if stuck++; now.Calls != 1 || now.Waiting != 0 || now.Bytes == 0 {
			stuck = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("the call still counts as one that waits for the backend: %+v", now)
		}
	}
	conn.Close()
	for b.router.Inflight() > 0 {
		time.Sleep(time.Millisecond)
	}
	if now := b.router.Load("qwen"); now.Calls != 0 || now.Waiting != 0 {
		t.Errorf("at the end: %+v", now)
	}
}

// TestKeyQuotedTwice: a backend that quotes its key in two values of a header has both
// taken out.
func TestKeyQuotedTwice(t *testing.T) {
	b := newBench(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Echo"] = []string{"a " + r.Header.Get("Authorization"), "b " + r.Header.Get("Authorization"), "c"}
		status(400, `{"error":{"message":"no"}}`)(w, r)
	})
	r := b.chat("gpt-4o", false)
	if got := strings.Join(r.header["X-Echo"], ", "); r.status != 400 || got != "a Bearer [key], b Bearer [key], c" {
		t.Errorf("%d, %q", r.status, got)
	}
}
