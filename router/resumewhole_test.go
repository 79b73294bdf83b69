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

// localChunk is an event with some text, with all that llama-server's have.
func localChunk(text string, spent string) string {
	return `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":` + wire.Quote(text) + `}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","timings":{"predicted_n":` + spent + `}}` + "\n\n"
}

const (
	localFirst = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk"}` + "\n\n"
	localLast  = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","timings":{"predicted_n":2}}` + "\n\n" +
		`data: {"choices":[],"created":7,"id":"chatcmpl-1","model":"qwen","system_fingerprint":"b1","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":5,"total_tokens":7},"timings":{"predicted_n":2}}` + "\n\n" + doneEvent
)

// newStreamingFixture is a fixture whose local server may be sent calls as streams.
func newStreamingFixture(t *testing.T, local, cloud http.HandlerFunc, edits ...func(*plan.Config, map[string]models.Route)) *fixture {
	t.Helper()
	b := newFixture(t, local, cloud, edits...)
	b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
	return b
}

const nonStreamingCall = `{"model":"local/qwen","max_tokens":100,"messages":[{"role":"user","content":"count"}]}`

// TestNonStreamingCallIsStreamed: a non-streaming call is run as a stream, and the client
// receives one JSON answer.
func TestNonStreamingCallIsStreamed(t *testing.T) {
	b := newStreamingFixture(t, sends(ends, localFirst, localChunk(" 1", "1"), localChunk(" 2", "2"), localLast), answers)
	r := b.post("/v1/chat/completions", nonStreamingCall)
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

// TestAnswerMayExceedTimeout: once it has begun, an answer may take longer than the
// timeout; it is not discarded and paid for again.
func TestAnswerMayExceedTimeout(t *testing.T) {
	var b *fixture
	var r reply
	retryIfTooSlow(true, func(timeout time.Duration) bool {
		b = newStreamingFixture(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, part := range []string{localFirst + localChunk(" 1", "1"), localChunk(" 2", "2"), localLast} {
				_, _ = w.Write([]byte(part))
				_ = http.NewResponseController(w).Flush()
				outlast(timeout)
			}
		}, answers, withTimeout(timeout))
		r = b.post("/v1/chat/completions", nonStreamingCall)
		return r.backend() == "qwen"
	})
	if r.status != 200 || r.backend() != "qwen" || len(b.cloud.requests()) != 0 {
		t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
	}
	silent := newStreamingFixture(t, sends(hangs, localFirst), answers, withTimeout(250*time.Millisecond))
	if r := silent.post("/v1/chat/completions", nonStreamingCall); r.backend() != "openrouter" || r.reason() != "timeout" {
		t.Errorf("one that never answers: %+v", r)
	}
}

// longText is long enough for a repetition of it to be found.
const longText = " 1, of a list that is long enough,"

// TestTruncatedLocalAnswer: if the local answer breaks before its end, the fallback
// generates all of it, or only the rest if the route has resume.
func TestTruncatedLocalAnswer(t *testing.T) {
	half := localFirst + localChunk(longText, "1") + localChunk(" 2", "2")
	continued := status(200, `{"id":"gen-9","choices":[{"message":{"role":"assistant","content":" 3 4"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)
	for name, behave := range map[string]http.HandlerFunc{"cut": sends(breaks, half), "a clean end": sends(ends, half), "in an event": sends(ends, half, `data: {"cho`)} {
		b := newStreamingFixture(t, behave, answers)
		if r := b.post("/v1/chat/completions", nonStreamingCall); r.body != wholeChat || r.backend() != "openrouter" || r.reason() != "lost" {
			t.Errorf("%s: %+v", name, r)
		}
		b = newStreamingFixture(t, behave, continued, withResume)
		r := b.post("/v1/chat/completions", nonStreamingCall)
		answer := gjson.Parse(r.body)
		if answer.Get("choices.0.message.content").Str != longText+" 2 3 4" || r.reason() != "lost" || answer.Get("usage.completion_tokens").Int() != 5 || answer.Get("usage.prompt_tokens").Int() != 7 {
			t.Errorf("%s, resumed: %+v", name, r)
		}
		asked := gjson.ParseBytes(b.cloud.lastBody())
		if asked.Get("messages.1.content").Str != longText+" 2" || asked.Get("max_tokens").Int() != 98 || asked.Get("stream").Exists() || len(b.cloud.requests()) != 1 {
			t.Errorf("%s, resumed: the cloud was asked %s", name, asked.Raw)
		}
	}
	b := newStreamingFixture(t, func(w http.ResponseWriter, r *http.Request) { sends(hangs, half)(w, r) }, answers)
	done := make(chan reply, 1)
	go func() { done <- b.post("/v1/chat/completions", nonStreamingCall) }()
	eventually(t, "the answer has begun", func() bool { return len(b.local.requests()) > 0 && b.router.Load("qwen").Bytes > 0 })
	close(b.processExited)
	if r := <-done; r.backend() != "openrouter" || r.reason() != "lost" {
		t.Errorf("the process ended: %+v", r)
	}
}

// TestContinuationIsPaidOnce: a fallback that may have generated the continuation is not
// asked for the whole answer as well.
func TestContinuationIsPaidOnce(t *testing.T) {
	half := localFirst + localChunk(longText, "1") + localChunk(" 2", "2")
	for name, cloud := range map[string]http.HandlerFunc{
		"500": status(500, `{}`), "reset": breaks,
		"parts": status(200, `{"choices":[{"message":{"content":[{"type":"text","text":"x"}]}}]}`),
	} {
		b := newStreamingFixture(t, sends(breaks, half), cloud, withResume)
		if r := b.post("/v1/chat/completions", nonStreamingCall); r.status < 500 || len(b.cloud.requests()) != 1 {
			t.Errorf("%s: %d after %d paid calls: %s", name, r.status, len(b.cloud.requests()), r.body)
		}
	}
}

// TestContinuationWithToolCall: a continuation that is a tool call is accepted.
func TestContinuationWithToolCall(t *testing.T) {
	calls := status(200, `{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}`)
	b := newStreamingFixture(t, sends(breaks, localFirst+localChunk(longText, "1")), calls, withResume)
	r := b.post("/v1/chat/completions", nonStreamingCall)
	if r.body != `{"choices":[{"message":{"content":"`+longText+`","tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}` || len(b.cloud.requests()) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestShortPartialIsRegenerated: after a short beginning the whole answer is asked for
// again, since a repetition of it could not be found.
func TestShortPartialIsRegenerated(t *testing.T) {
	repeats := status(200, strings.Replace(wholeChat, " 1 2 3", " 1 2 3 4", 1))
	b := newStreamingFixture(t, sends(breaks, localFirst+localChunk(" 1", "1")+localChunk(" 2", "2")), repeats, withResume)
	r := b.post("/v1/chat/completions", nonStreamingCall)
	if asked := gjson.ParseBytes(b.cloud.lastBody()); gjson.Get(r.body, "choices.0.message.content").Str != " 1 2 3 4" || asked.Get("messages.1").Exists() || len(b.cloud.requests()) != 1 {
		t.Errorf("asked %s: %+v", asked.Raw, r)
	}
}

// TestClientGoneDuringContinuation: a client that closes the connection during the
// continuation is recorded as 499, not as an error.
func TestClientGoneDuringContinuation(t *testing.T) {
	b := newStreamingFixture(t, sends(breaks, localFirst+localChunk(longText, "1")), hangs, withResume)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(nonStreamingCall))
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
	eventually(t, "the cloud has the call", func() bool { return len(b.cloud.requests()) > 0 })
	cancel()
	<-done
	b.waitIdle()
	if !strings.Contains(b.log.String(), `"status":499`) || len(b.cloud.requests()) != 1 {
		t.Errorf("%d calls of the cloud, log: %s", len(b.cloud.requests()), b.log)
	}
}

// TestStalledLocalAnswer: an answer that begins and then stalls moves to the fallback.
func TestStalledLocalAnswer(t *testing.T) {
	b := newStreamingFixture(t, sends(hangs, localFirst+localChunk(" 1", "1")), answers, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 200 * time.Millisecond })
	if r := b.post("/v1/chat/completions", nonStreamingCall); r.status != 200 || r.backend() != "openrouter" || r.reason() != "stalled" {
		t.Errorf("%+v", r)
	}
}

// TestEngineErrorMidStream: an error of llama-server in the middle of its stream is passed
// on as it would have been without a stream.
func TestEngineErrorMidStream(t *testing.T) {
	const words = `{"error":{"code":500,"message":"the engine failed","type":"server_error"}}`
	b := newStreamingFixture(t, sends(ends, localFirst, localChunk(" 1", "1"), "data: "+words+"\n\n"), answers)
	r := b.post("/v1/chat/completions", strings.Replace(nonStreamingCall, "local/qwen", "local/alone", 1))
	if r.status != 500 || r.body != words {
		t.Errorf("%+v", r)
	}
	if r := b.post("/v1/chat/completions", nonStreamingCall); r.backend() != "openrouter" || r.reason() != "status" {
		t.Errorf("%+v", r)
	}
}

// TestUnknownStreamFormat: a server whose stream format is unknown is asked again without
// a stream, and from then on directly so.
func TestUnknownStreamFormat(t *testing.T) {
	b := newStreamingFixture(t, nil, answers)
	b.local.handler = b.local.answersInKind() // an engine that streams in a way of its own
	for i, want := range []int{2, 3} {
		if r := b.post("/v1/chat/completions", nonStreamingCall); r.body != wholeChat || r.backend() != "qwen" {
			t.Errorf("call %d: %+v", i, r)
		}
		if got := len(b.local.requests()); got != want {
			t.Errorf("after call %d local was asked %d times, want %d", i, got, want)
		}
	}
	if got := b.local.lastBody(); strings.Contains(string(got), "stream") {
		t.Errorf("it was sent %s", got)
	}
	b.state.edit(func(s *backend.LocalState) { s.Gone = make(chan struct{}) }) // another process
	b.post("/v1/chat/completions", nonStreamingCall)
	if got := len(b.local.requests()); got != 5 {
		t.Errorf("a new process is not tried: %d calls", got)
	}
	if len(b.cloud.requests()) != 0 {
		t.Error("the cloud was paid")
	}
}
