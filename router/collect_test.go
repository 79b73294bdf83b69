package router

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// piece is an event with some text, with all that llama-server's have.
func piece(text string, spent string) string {
	return `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":` + wire.Quote(text) + `}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","timings":{"predicted_n":` + spent + `}}` + "\n\n"
}

const (
	firstPiece = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk"}` + "\n\n"
	lastPiece  = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","timings":{"predicted_n":2}}` + "\n\n" +
		`data: {"choices":[],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":5,"total_tokens":7},"timings":{"predicted_n":2}}` + "\n\n" + doneEvent
)

// streaming is a bench whose local server may be given calls as streams.
func streaming(t *testing.T, local, cloud http.HandlerFunc, edits ...func(*plan.Config, map[string]models.Route)) *bench {
	t.Helper()
	b := newBench(t, local, cloud, edits...)
	b.state.set(func(s *backend.LocalState) { s.Streams = true })
	return b
}

const plainCall = `{"model":"local/qwen","max_tokens":100,"messages":[{"role":"user","content":"count"}]}`

// TestCollected: a call without a stream is run as one, and its answer is whole.
func TestCollected(t *testing.T) {
	b := streaming(t, sends(ends, firstPiece, piece(" 1", "1"), piece(" 2", "2"), lastPiece), answers)
	r := b.post("/v1/chat/completions", plainCall)
	answer := gjson.Parse(r.body)
	if r.status != 200 || r.backend() != "qwen" || r.header.Get("Content-Type") != "application/json; charset=utf-8" ||
		answer.Get("object").Str != "chat.completion" || answer.Get("choices.0.message.content").Str != " 1 2" || answer.Get("usage.total_tokens").Int() != 7 {
		t.Errorf("%d from %q: %v %s", r.status, r.backend(), r.header, r.body)
	}
	if sent := gjson.ParseBytes(b.local.lastBody()); !sent.Get("stream").Bool() || sent.Get("max_tokens").Int() != 100 || sent.Get("model").Str != "qwen" {
		t.Errorf("local was sent %s", sent.Raw)
	}
	if !strings.Contains(b.log.String(), `"completion_tokens":2`) {
		t.Error("the tokens are not in the log")
	}
}

// TestLongAnswer: once it has begun, an answer may take longer than the timeout,
// and is not thrown away and paid for again.
func TestLongAnswer(t *testing.T) {
	var b *bench
	var r reply
	inTime(true, func(timeout time.Duration) bool {
		b = streaming(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, part := range []string{firstPiece + piece(" 1", "1"), piece(" 2", "2"), lastPiece} {
				_, _ = w.Write([]byte(part))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(timeout + 50*time.Millisecond)
			}
		}, answers, short(timeout))
		r = b.post("/v1/chat/completions", plainCall)
		return r.backend() == "qwen"
	})
	if r.status != 200 || r.backend() != "qwen" || len(b.cloud.calls()) != 0 {
		t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
	}
	silent := streaming(t, sends(hangs, firstPiece), answers, short(250*time.Millisecond))
	if r := silent.post("/v1/chat/completions", plainCall); r.backend() != "openrouter" || r.reason() != "timeout" {
		t.Errorf("one that says nothing: %+v", r)
	}
}

// aLot is enough text for somebody else to go on with.
const aLot = " 1, of a list that is long enough,"

// TestBrokenOff: an answer that breaks before it is whole is another one's, all of
// it, or, where the route wants that, the rest of it.
func TestBrokenOff(t *testing.T) {
	half := firstPiece + piece(aLot, "1") + piece(" 2", "2")
	continued := status(200, `{"id":"gen-9","choices":[{"message":{"role":"assistant","content":" 3 4"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)
	for name, behave := range map[string]http.HandlerFunc{"cut": sends(breaks, half), "a clean end": sends(ends, half), "in an event": sends(ends, half, `data: {"cho`)} {
		b := streaming(t, behave, answers)
		if r := b.post("/v1/chat/completions", plainCall); r.body != wholeChat || r.backend() != "openrouter" || r.reason() != "lost" {
			t.Errorf("%s: %+v", name, r)
		}
		b = streaming(t, behave, continued, resuming)
		r := b.post("/v1/chat/completions", plainCall)
		answer := gjson.Parse(r.body)
		if answer.Get("choices.0.message.content").Str != aLot+" 2 3 4" || r.reason() != "lost" || answer.Get("usage.completion_tokens").Int() != 5 || answer.Get("usage.prompt_tokens").Int() != 7 {
			t.Errorf("%s, resumed: %+v", name, r)
		}
		asked := gjson.ParseBytes(b.cloud.lastBody())
		if asked.Get("messages.1.content").Str != aLot+" 2" || asked.Get("max_tokens").Int() != 98 || asked.Get("stream").Exists() || len(b.cloud.calls()) != 1 {
			t.Errorf("%s, resumed: the cloud was asked %s", name, asked.Raw)
		}
	}
	b := streaming(t, func(w http.ResponseWriter, r *http.Request) { sends(hangs, half)(w, r) }, answers)
	done := make(chan reply, 1)
	go func() { done <- b.post("/v1/chat/completions", plainCall) }()
	for len(b.local.calls()) == 0 || b.router.Load("qwen").Bytes == 0 {
		time.Sleep(time.Millisecond)
	}
	close(b.gone)
	if r := <-done; r.backend() != "openrouter" || r.reason() != "lost" {
		t.Errorf("the process ended: %+v", r)
	}
}

// TestRestIsPaidOnce: a fallback that was asked for the rest, and may have made
// it, is not asked for the whole as well.
func TestRestIsPaidOnce(t *testing.T) {
	half := firstPiece + piece(aLot, "1") + piece(" 2", "2")
	for name, cloud := range map[string]http.HandlerFunc{
		"500": status(500, `{}`), "reset": breaks,
		"parts": status(200, `{"choices":[{"message":{"content":[{"type":"text","text":"x"}]}}]}`),
	} {
		b := streaming(t, sends(breaks, half), cloud, resuming)
		if r := b.post("/v1/chat/completions", plainCall); r.status < 500 || len(b.cloud.calls()) != 1 {
			t.Errorf("%s: %d after %d paid calls: %s", name, r.status, len(b.cloud.calls()), r.body)
		}
	}
}

// TestRestIsAToolCall: a fallback that goes on with a call of a tool has gone on.
func TestRestIsAToolCall(t *testing.T) {
	calls := status(200, `{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}`)
	b := streaming(t, sends(breaks, firstPiece+piece(aLot, "1")), calls, resuming)
	r := b.post("/v1/chat/completions", plainCall)
	if r.body != `{"choices":[{"message":{"content":"`+aLot+`","tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}` || len(b.cloud.calls()) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestLittleIsNotGoneOnWith: of a short beginning the whole is asked for, since
// nobody could tell whether it was repeated: another llama-server does.
func TestLittleIsNotGoneOnWith(t *testing.T) {
	repeats := status(200, strings.Replace(wholeChat, " 1 2 3", " 1 2 3 4", 1))
	b := streaming(t, sends(breaks, firstPiece+piece(" 1", "1")+piece(" 2", "2")), repeats, resuming)
	r := b.post("/v1/chat/completions", plainCall)
	if asked := gjson.ParseBytes(b.cloud.lastBody()); gjson.Get(r.body, "choices.0.message.content").Str != " 1 2 3 4" || asked.Get("messages.1").Exists() || len(b.cloud.calls()) != 1 {
		t.Errorf("asked %s: %+v", asked.Raw, r)
	}
}

// TestLeavesTheRest: a client that goes away while somebody else goes on with its
// answer has left, and has not had an error.
func TestLeavesTheRest(t *testing.T) {
	b := streaming(t, sends(breaks, firstPiece+piece(aLot, "1")), hangs, resuming)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(plainCall))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	for len(b.cloud.calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	<-done
	for b.router.Inflight() > 0 {
		time.Sleep(time.Millisecond)
	}
	if !strings.Contains(b.log.String(), `"status":499`) || len(b.cloud.calls()) != 1 {
		t.Errorf("%d calls of the cloud, log: %s", len(b.cloud.calls()), b.log)
	}
}

// TestSilentInTheMiddle: an answer that has begun and goes silent is given away.
func TestSilentInTheMiddle(t *testing.T) {
	b := streaming(t, sends(hangs, firstPiece+piece(" 1", "1")), answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 200 * time.Millisecond })
	if r := b.post("/v1/chat/completions", plainCall); r.status != 200 || r.backend() != "openrouter" || r.reason() != "stalled" {
		t.Errorf("%+v", r)
	}
}

// TestEngineErrorInTheMiddle: what llama-server says once it has begun is its
// answer, as it would have been without a stream.
func TestEngineErrorInTheMiddle(t *testing.T) {
	const words = `{"error":{"code":500,"message":"the engine is upset","type":"server_error"}}`
	b := streaming(t, sends(ends, firstPiece, piece(" 1", "1"), "data: "+words+"\n\n"), answers)
	r := b.post("/v1/chat/completions", strings.Replace(plainCall, "local/qwen", "local/alone", 1))
	if r.status != 500 || r.body != words {
		t.Errorf("%+v", r)
	}
	if r := b.post("/v1/chat/completions", plainCall); r.backend() != "openrouter" || r.reason() != "status" {
		t.Errorf("%+v", r)
	}
}

// TestStrangeStreams: a server whose streams are not understood is asked again
// without one, and from then on at once.
func TestStrangeStreams(t *testing.T) {
	b := streaming(t, nil, answers)
	b.local.behave = b.local.well() // an engine that streams in a way of its own
	for i, want := range []int{2, 3} {
		if r := b.post("/v1/chat/completions", plainCall); r.body != wholeChat || r.backend() != "qwen" {
			t.Errorf("call %d: %+v", i, r)
		}
		if got := len(b.local.calls()); got != want {
			t.Errorf("after call %d local was asked %d times, want %d", i, got, want)
		}
	}
	if got := b.local.lastBody(); strings.Contains(string(got), "stream") {
		t.Errorf("it is asked %s", got)
	}
	b.state.set(func(s *backend.LocalState) { s.Gone = make(chan struct{}) }) // another process
	b.post("/v1/chat/completions", plainCall)
	if got := len(b.local.calls()); got != 5 {
		t.Errorf("another process is not tried: %d calls", got)
	}
	if len(b.cloud.calls()) != 0 {
		t.Error("somebody was paid")
	}
}
