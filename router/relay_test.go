package router

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/aggregate"
)

// TestTruncatedAnywhere ends a stream cleanly after every byte. The client sees it as
// complete only if it is.
func TestTruncatedAnywhere(t *testing.T) {
	const anthropic = "event: content_block_delta\n" + `data: {"type":"content_block_delta","delta":{"text":"x"}}` + "\n\nevent: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n"
	const openai = `data: {"type":"response.output_text.delta","delta":"x"}` + "\n\nevent: response.completed\n" + `data: {"type":"response.completed","response":{"usage":{"output_tokens":1}}}` + "\n\n"
	for path, stream := range map[string]string{"/v1/chat/completions": wholeSSE, "/v1/messages": anthropic, "/v1/responses": openai} {
		t.Run(path, func(t *testing.T) {
			var cut string
			b := newFixture(t, func(w http.ResponseWriter, r *http.Request) { sends(ends, cut)(w, r) }, nil)
			b.cloud.handler = sends(ends, "event: fallback\n", stream)
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
					if data := last[strings.Index(last, "data: ")+len("data: "):]; !gjson.Valid(data) || !strings.Contains(data, "connection lost in the middle of the answer") {
						t.Errorf("cut at %d: the last event is %q, want an error event", n, last)
					}
				}
			}
		})
	}
}

func TestStreamMayExceedTimeout(t *testing.T) {
	var r reply
	retryIfTooSlow(true, func(timeout time.Duration) bool {
		b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
			sends(ends, textEvent)(w, r)
			outlast(timeout) // which is to the first answer
			_, _ = io.WriteString(w, finalEvent+doneEvent)
		}, answers, withTimeout(timeout))
		r = b.chat("local/qwen", true)
		return r.backend() == "qwen"
	})
	if r.readErr != nil || r.body != textEvent+finalEvent+doneEvent {
		t.Errorf("%q, %v", r.body, r.readErr)
	}
}

// TestEndEventIsFirstAnswer: the stream's end is its first answer, and the backend keeps
// the connection open.
func TestEndEventIsFirstAnswer(t *testing.T) {
	const completed = "event: response.completed\n" + `data: {"type":"response.completed","response":{}}` + "\n\n"
	b := newFixture(t, sends(hangs, completed), answers, withTimeout(time.Minute), withCompleteResponses)
	done := make(chan reply, 1)
	go func() {
		done <- b.post("/v1/responses", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true}}`)
	}()
	select {
	case r := <-done:
		if r.readErr != nil || r.body != completed {
			t.Errorf("%q, %v", r.body, r.readErr)
		}
	case <-time.After(waitLimit):
		t.Fatal("the client still waits for the end of a complete stream")
	}
}

// TestLargeAnswers: an answer too large to be held is passed on as it comes, and a
// truncation is seen.
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
			b := newFixture(t, tc.behave, answers)
			r := b.post("/v1/embeddings", `{"model":"local/qwen"}`)
			if (r.readErr == nil) != tc.whole || tc.whole && r.body != large {
				t.Errorf("%d bytes, %v", len(r.body), r.readErr)
			}
		})
	}
}

// TestTruncatedAfterCommit: a stream that breaks after its first answer never ends like a
// complete one.
func TestTruncatedAfterCommit(t *testing.T) {
	const message = "event: content_block_delta\n" + `data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}` + "\n\n"
	const response = `data: {"type":"response.output_text.delta","delta":"x"}` + "\n\n"
	const text = `data: {"choices":[{"text":" 1"}]}` + "\n\n"
	for name, tc := range map[string]struct {
		path   string
		behave http.HandlerFunc
		whole  string // what comes through before the error event
		event  string // how the error event begins
	}{
		"reset":         {"/v1/chat/completions", sends(breaks, roleEvent, textEvent), roleEvent + textEvent, `data: {"error":{"message":`},
		"end, no mark":  {"/v1/chat/completions", sends(ends, roleEvent, textEvent), roleEvent + textEvent, `data: {"error":{"message":`},
		"half an event": {"/v1/chat/completions", sends(breaks, textEvent, `data: {"choi`), textEvent, `data: {"error":{"message":`},
		"completion":    {"/v1/completions", sends(breaks, text), text, `data: {"error":{"message":`},
		"message":       {"/v1/messages", sends(breaks, message), message, "event: error\ndata: {\"type\":\"error\",\"error\":{"},
		"response":      {"/v1/responses", sends(ends, response), response, "event: error\ndata: {\"type\":\"error\",\"code\":"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.behave, answers, withCompleteResponses)
			r := b.post(tc.path, `{"model":"local/qwen","stream":true}`)
			if r.status != 200 || r.readErr == nil {
				t.Errorf("%d, and reading it ended with %v: it appears complete", r.status, r.readErr)
			}
			rest, ok := strings.CutPrefix(r.body, tc.whole)
			if !ok || !strings.HasPrefix(rest, tc.event) || !strings.HasSuffix(rest, "}\n\n") {
				t.Errorf("client got %q, want %q and then an error event", r.body, tc.whole)
			}
			if strings.Contains(r.body, "[DONE]") {
				t.Error("a truncated stream has [DONE]")
			}
			if n := len(b.cloud.requests()); n != 0 {
				t.Errorf("the fallback was asked %d times after commit", n)
			}
		})
	}
}

func TestStreamsPassUnchanged(t *testing.T) {
	crlf := strings.ReplaceAll(wholeSSE, "\n", "\r\n")
	for name, tc := range map[string]struct {
		path  string
		parts []string
	}{
		"chat":           {"/v1/chat/completions", []string{wholeSSE}},
		"byte by byte":   {"/v1/chat/completions", strings.Split(wholeSSE, "")},
		"CRLF":           {"/v1/chat/completions", []string{crlf}},
		"with pings":     {"/v1/chat/completions", []string{": a\n\n", textEvent, ": b\n\n", finalEvent, doneEvent}},
		"no line at end": {"/v1/chat/completions", []string{textEvent, finalEvent, "data: [DONE]"}},
		"message":        {"/v1/messages", []string{`data: {"type":"content_block_delta","delta":{"text":"x"}}` + "\n\n", "event: message_stop\ndata: {}\n\n"}},
		"response":       {"/v1/responses", []string{`data: {"type":"response.completed","response":{}}` + "\n\n", doneEvent}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, sends(ends, tc.parts...), answers, withCompleteResponses)
			r := b.post(tc.path, `{"model":"local/qwen","stream":true}`)
			if want := strings.Join(tc.parts, ""); r.status != 200 || r.body != want || r.readErr != nil {
				t.Errorf("%d %q, %v; want %q", r.status, r.body, r.readErr, want)
			}
		})
	}
}

func TestEventsAreFlushed(t *testing.T) {
	next := make(chan struct{})
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		sends(ends, textEvent)(w, r)
		<-next
		_, _ = io.WriteString(w, finalEvent+doneEvent)
	}, answers)
	resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len(textEvent))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != textEvent {
		t.Fatalf("%q, %v", first, err)
	}
	close(next) // only now may the rest come
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != finalEvent+doneEvent {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestFailureAfterCommit: a failure after the beginning of a stream was sent becomes an
// error event in the stream, and no other backend is asked.
func TestFailureAfterCommit(t *testing.T) {
	for name, behave := range map[string]http.HandlerFunc{
		"cut":             sends(breaks, roleEvent, textEvent),
		"a clean end":     sends(ends, roleEvent, textEvent),
		"half an event":   sends(ends, roleEvent, textEvent, `data: {"choices":[{"delta":{"cont`),
		"an error event":  sends(ends, roleEvent, textEvent, `data: {"error":{"message":"the engine failed","code":500}}`+"\n\n"),
		"silence":         sends(hangs, roleEvent, textEvent),
		"error, then cut": sends(breaks, roleEvent, textEvent, `data: {"error":{"message":"the engine failed","code":500}}`+"\n\n"),
	} {
		b := newFixture(t, behave, answers, stallsSoonIf(name == "silence"))
		r := b.chat("local/qwen", true)
		if r.status != 200 || !strings.HasPrefix(r.body, roleEvent+textEvent) || !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") {
			t.Errorf("%s: %d %q", name, r.status, r.body)
		}
		if len(b.cloud.requests()) != 0 {
			t.Errorf("%s: another backend was asked", name)
		}
	}
}
