package router

import (
	"context"
	"fmt"
	"io"
	"net"
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

// short makes local's routes impatient.
func short(timeout time.Duration) func(*plan.Config, map[string]models.Route) {
	return func(_ *plan.Config, routes map[string]models.Route) {
		for name, r := range routes {
			r.Timeout = timeout
			routes[name] = r
		}
	}
}

// inTime makes a call with a timeout that is short where it is to pass, else long.
// A busy machine may let a short one pass before a backend has even been given the
// call: then it is made again, with a longer one, and the last of them counts.
func inTime(passes bool, call func(timeout time.Duration) (given bool)) {
	if !passes {
		call(time.Minute)
		return
	}
	for timeout := 150 * time.Millisecond; !call(timeout) && timeout < 5*time.Second; timeout *= 8 {
	}
}

// hijack plays a backend that speaks something else than HTTP.
func hijack(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
}

// TestFallbackBeforeCommit: whatever local does instead of answering, the
// client gets the fallback's answer, whole, and each side is asked once.
func TestFallbackBeforeCommit(t *testing.T) {
	for name, f := range failings() {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %t", name, stream), func(t *testing.T) {
				var b *bench
				var r reply
				inTime(f.reason == backend.Timeout, func(timeout time.Duration) bool {
					b = newBench(t, f.behave, nil, short(timeout))
					b.cloud.behave = b.cloud.well()
					r = b.post("/v1/chat/completions", fmt.Sprintf(`{"model":"local/qwen","stream":%t,"stream_options":{"include_usage":%[1]t},"messages":[]}`, stream))
					return len(b.local.calls()) > 0
				})
				want := wholeChat
				if stream {
					want = wholeSSE
				}
				if r.status != 200 || r.body != want || r.readErr != nil {
					t.Errorf("client got %d %q, %v", r.status, r.body, r.readErr)
				}
				if r.backend() != "openrouter" || r.reason() != string(f.reason) {
					t.Errorf("from %q because of %q, want openrouter because of %q", r.backend(), r.reason(), f.reason)
				}
				if l, c := len(b.local.calls()), len(b.cloud.calls()); l != 1 || c != 1 {
					t.Errorf("local was asked %d times, the cloud %d times", l, c)
				}
			})
		}
	}
}

func TestRefusedConnection(t *testing.T) {
	b := newBench(t, answers, answers)
	b.local.Close()
	if r := b.chat("local/qwen", false); r.status != 200 || r.backend() != "openrouter" || r.reason() != "connect" {
		t.Errorf("%d from %q (%s)", r.status, r.backend(), r.reason())
	}
	if r := b.chat("local/alone", false); r.status != 502 || gjson.Get(r.body, "error.code").Str != "connect" {
		t.Errorf("without a fallback: %d %s", r.status, r.body)
	}
}

// TestTimeoutIsKept: the fallback is asked within 250 ms of the deadline. This
// is a promise of the contract, so it is timed.
func TestTimeoutIsKept(t *testing.T) {
	b := newBench(t, hangs, answers, short(400*time.Millisecond))
	best := time.Hour // of a few: the machine may be loaded
	for range 5 {
		began := time.Now()
		r := b.chat("local/qwen", false)
		took := time.Since(began)
		if r.reason() != "timeout" || took < 400*time.Millisecond {
			t.Errorf("(%s) after %s", r.reason(), took)
		}
		if best = min(best, took); best <= 650*time.Millisecond {
			break
		}
	}
	if best > 650*time.Millisecond {
		t.Errorf("after %s at best, want a fallback within 250 ms of 400 ms", best)
	}
	select {
	case <-b.local.gone:
	case <-time.After(waitMost):
		t.Error("the hung call of local was not cancelled")
	}
	if r := b.chat("local/alone", false); r.status != 504 || !strings.Contains(r.body, "gave no answer within 400ms") {
		t.Errorf("without a fallback: %d %s", r.status, r.body)
	}
}

// TestGoneMovesCallsAtOnce: when the process ends, nobody waits for a deadline.
func TestGoneMovesCallsAtOnce(t *testing.T) {
	b := newBench(t, hangs, answers, short(time.Minute))
	got := make(chan reply, 5)
	for range cap(got) {
		go func() { got <- b.chat("local/qwen", false) }()
	}
	for len(b.local.calls()) < cap(got) {
		time.Sleep(time.Millisecond)
	}
	close(b.gone)
	for range cap(got) {
		select {
		case r := <-got:
			if r.backend() != "openrouter" || r.reason() != "lost" {
				t.Errorf("from %q (%s)", r.backend(), r.reason())
			}
		case <-time.After(waitMost):
			t.Fatal("a call still waits on the server that is gone")
		}
	}
}

// TestCutAfterCommit: a stream that breaks after its first answer never looks
// whole to the client.
func TestCutAfterCommit(t *testing.T) {
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
			b := newBench(t, tc.behave, answers)
			r := b.post(tc.path, `{"model":"local/qwen","stream":true}`)
			if r.status != 200 || r.readErr == nil {
				t.Errorf("%d, and reading it ended with %v: it looks whole", r.status, r.readErr)
			}
			rest, ok := strings.CutPrefix(r.body, tc.whole)
			if !ok || !strings.HasPrefix(rest, tc.event) || !strings.HasSuffix(rest, "}\n\n") {
				t.Errorf("client got %q, want %q and then an error event", r.body, tc.whole)
			}
			if strings.Contains(r.body, "[DONE]") {
				t.Error("a cut stream says [DONE]")
			}
			if n := len(b.cloud.calls()); n != 0 {
				t.Errorf("the fallback was asked %d times after commit", n)
			}
		})
	}
}

func TestWholeStreamsPassUnchanged(t *testing.T) {
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
			b := newBench(t, sends(ends, tc.parts...), answers)
			r := b.post(tc.path, `{"model":"local/qwen","stream":true}`)
			if want := strings.Join(tc.parts, ""); r.status != 200 || r.body != want || r.readErr != nil {
				t.Errorf("%d %q, %v; want %q", r.status, r.body, r.readErr, want)
			}
		})
	}
}

func TestStreamIsNotHeldUp(t *testing.T) {
	next := make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
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

func TestClientThatLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		read   int // bytes of the answer to read before leaving
	}{
		"while waiting": {hangs, 0},
		"in a stream":   {sends(hangs, textEvent), len(textEvent)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.behave, answers, short(time.Minute))
			best := time.Hour // of a few: the machine may be loaded
			for try := 0; try < 5 && best > 100*time.Millisecond; try++ {
				best = min(best, b.leave(tc.read))
			}
			if best > 100*time.Millisecond {
				t.Errorf("local was let go after %s at best, want 100 ms", best)
			}
			for b.router.Inflight() > 0 {
				time.Sleep(time.Millisecond)
			}
			if n := len(b.cloud.calls()); n != 0 {
				t.Errorf("a fallback was asked for a client that has left: %d calls", n)
			}
			if !strings.Contains(b.log.String(), `"status":499`) {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// leave makes a streamed call, reads so many bytes of its answer, and goes away.
// It returns how long local went on working for it.
func (b *bench) leave(read int) time.Duration {
	b.t.Helper()
	ctx, leave := context.WithCancel(b.t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(`{"model":"local/qwen","stream":true}`))
	if err != nil {
		b.t.Fatal(err)
	}
	before := len(b.local.calls())
	left := make(chan struct{})
	go func() {
		defer close(left)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, _ = io.ReadFull(resp.Body, make([]byte, read))
			leave()
			resp.Body.Close()
		}
	}()
	for len(b.local.calls()) == before {
		time.Sleep(time.Millisecond)
	}
	if read == 0 {
		leave()
	}
	<-left
	began := time.Now()
	select {
	case <-b.local.gone:
	case <-time.After(waitMost):
		b.t.Fatal("local still works for a client that has left")
	}
	return time.Since(began)
}

func TestBothFail(t *testing.T) {
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		timeout      time.Duration
		status       int
		words        []string
	}{
		"500, then 402": {status(500, `{"error":{"message":"engine"}}`), status(402, `{"error":{"message":"no credits"}}`), time.Minute, 502, []string{"qwen answered 500: engine", "openrouter answered 402: no credits"}},
		"400 twice":     {status(400, `{"error":{"message":"bad schema"}}`), status(400, `{"error":{"message":"bad too"}}`), time.Minute, 400, []string{"bad schema", "bad too"}},
		"429 at last":   {breaks, status(429, `{}`, "Retry-After", "7"), time.Minute, 429, []string{"qwen broke the connection", "openrouter answered 429"}},
		"both silent":   {hangs, breaks, 300 * time.Millisecond, 502, []string{"qwen gave no answer within 300ms", "openrouter broke the connection"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.local, tc.cloud, short(tc.timeout))
			r := b.chat("local/qwen", false)
			if r.status != tc.status || gjson.Get(r.body, "error.code").Str != wire.CodeBothFailed {
				t.Errorf("%d %s, want %d", r.status, r.body, tc.status)
			}
			for _, words := range tc.words {
				if !strings.Contains(r.body, words) {
					t.Errorf("%s\nlacks %q", r.body, words)
				}
			}
			if want := map[int]string{429: "7"}[tc.status]; r.header.Get("Retry-After") != want {
				t.Errorf("Retry-After %q, want %q", r.header.Get("Retry-After"), want)
			}
		})
	}
}

// TestOwnErrorPassesThrough: where only one backend was asked, its error is the
// client's, byte for byte.
func TestOwnErrorPassesThrough(t *testing.T) {
	const words = `{ "error": {"code":402, "message":"credits"} }`
	b := newBench(t, status(418, `short and stout`), status(402, words, "X-Generation-Id", "g1"))
	if r := b.chat("gpt-4o", true); r.status != 402 || r.body != words || r.backend() != "openrouter" || r.reason() != "" || r.header.Get("X-Generation-Id") != "g1" {
		t.Errorf("premium: %d %s from %q (%s)", r.status, r.body, r.backend(), r.reason())
	}
	if r := b.chat("local/alone", false); r.status != 418 || r.body != "short and stout" || r.backend() != "qwen" {
		t.Errorf("local: %d %s", r.status, r.body)
	}
	b.state.set(func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Draining, "is draining", false })
	if r := b.chat("local/qwen", false); r.status != 503 || r.reason() != "draining" {
		t.Errorf("bypassed: %d (%s)", r.status, r.reason())
	}
}

// TestPaidOnce: once a paid upstream may have begun, no second one is asked.
func TestPaidOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		second int // how often the other upstream is asked
	}{
		"hangs":                    {hangs, 0},
		"breaks":                   {breaks, 0},
		"error as 200":             {status(200, `{"error":{"message":"x"}}`), 0},
		"stream: role, then cut":   {sends(breaks, roleEvent), 0},
		"stream: role, then hangs": {sends(hangs, roleEvent), 0},
		"stream: error":            {sends(ends, `data: {"error":{"message":"x"}}`+"\n\n"), 0},
		"gateway timeout (504)":    {status(504, `{}`), 0},
		"server error (500)":       {status(500, `{}`), 0},
		"refuses (503)":            {status(503, `{}`), 1},
		"refuses (402)":            {status(402, `{}`), 1},
		"refuses (429)":            {status(429, `{}`), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var other *peer
			b := newBench(t, answers, tc.behave, func(c *plan.Config, routes map[string]models.Route) {
				other = newPeer(t, answers)
				c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "other", BaseURL: other.URL, Key: "k2"})
				routes["paid"] = models.Route{Primary: "openrouter", Fallback: "other", Timeout: 200 * time.Millisecond}
			})
			r := b.chat("paid", false)
			if n := len(b.cloud.calls()); n != 1 {
				t.Errorf("the first was asked %d times", n)
			}
			if n := len(other.calls()); n != tc.second {
				t.Errorf("the second was asked %d times, want %d (client got %d %s)", n, tc.second, r.status, r.body)
			}
			if tc.second == 0 && r.status < 500 {
				t.Errorf("client got %d", r.status)
			}
		})
	}
}

// TestDialErrorsAreRepeated: where no connection came about, nothing can have
// been paid for, so the upstream gets a second chance.
func TestDialErrorsAreRepeated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	b := newBench(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].BaseURL = "http://" + address })
	go func() {
		time.Sleep(30 * time.Millisecond)
		if l, err := net.Listen("tcp", address); err == nil {
			srv := &http.Server{Handler: http.HandlerFunc(answers)}
			t.Cleanup(func() { srv.Close() })
			_ = srv.Serve(l)
		}
	}()
	if r := b.chat("gpt-4o", false); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestRecord(t *testing.T) {
	b := newBench(t, sends(ends, wholeSSE), answers)
	b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"content":"my prompt"}]}`, "X-Request-Id", "r-1")
	line := b.log.String()
	for path, want := range map[string]string{
		"request_id": "r-1", "model": "local/qwen", "backend": "qwen", "reason": "", "status": "200",
		"prompt_tokens": "7", "completion_tokens": "3", "level": "info",
	} {
		if got := gjson.Get(line, path).String(); got != want {
			t.Errorf("%s is %q, want %q in %s", path, got, want, line)
		}
	}
	if !gjson.Get(line, "ms").Exists() || strings.Contains(line, "my prompt") || strings.Count(line, "\n") != 1 {
		t.Errorf("log: %s", line)
	}
	resp, err := http.Get(b.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	figures, _ := io.ReadAll(resp.Body)
	if want := `llmsup_calls_total{backend="qwen",reason="",route="local/qwen",status="200"} 1`; !strings.Contains(string(figures), want) {
		t.Errorf("metrics lack %s:\n%s", want, figures)
	}
}
