package router

import (
	"bufio"
	"fmt"
	"io"
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

// textChunk is an event with some text, as llama-server sends it.
func textChunk(text string) string {
	return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`+"\n\n", text)
}

// finishChunk is the event with a finish reason, with the fallback's id.
func finishChunk(reason string) string {
	return fmt.Sprintf(`data: {"id":"gen-9","choices":[{"index":0,"delta":{"content":""},"finish_reason":%q}]}`+"\n\n", reason)
}

func withResume(_ *plan.Config, routes map[string]models.Route) {
	r := routes["local/qwen"]
	r.Resume = true
	routes["local/qwen"] = r
}

// streamText joins the text of a stream, and checks that it is one stream: one id, one
// finish reason, one end mark.
func streamText(t *testing.T, body string) (text string) {
	t.Helper()
	finishes := 0
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		event := gjson.Parse(data)
		if id := event.Get("id").Str; id != "chatcmpl-1" && !event.Get("error").Exists() {
			t.Errorf("an event of another stream: %s", data)
		}
		text += event.Get("choices.0.delta.content").Str
		if event.Get("choices.0.finish_reason").Str != "" {
			finishes++
		}
	}
	if finishes != 1 || strings.Count(body, "[DONE]") != 1 || !strings.HasSuffix(body, doneEvent) {
		t.Errorf("%d finishes in a stream that is whole:\n%s", finishes, body)
	}
	return text
}

const firstChunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}` + "\n\n"

// TestResume: however a stream breaks, the fallback continues it, and the client receives
// one stream with the whole text.
func TestResume(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	start := firstChunk + textChunk(first) + textChunk(" 2") + textChunk(" 3")
	theirs := func(text ...string) http.HandlerFunc {
		events := []string{": OPENROUTER PROCESSING\n\n", roleEvent}
		for _, part := range text {
			events = append(events, `data: {"id":"gen-9","choices":[{"index":0,"delta":{"role":"assistant","content":`+wire.Quote(part)+`}}]}`+"\n\n")
		}
		return sends(ends, append(events, finishChunk("stop"), usageEvent, doneEvent)...)
	}
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		want         string
	}{
		"cut":                         {sends(breaks, start), theirs(" 4", " 5"), first + " 2 3 4 5"},
		"a clean end without a mark":  {sends(ends, start), theirs(" 4", " 5"), first + " 2 3 4 5"},
		"in the middle of an event":   {sends(breaks, start, `data: {"choices":[{"delta":{"content":" 4`), theirs(" 4", " 5"), first + " 2 3 4 5"},
		"silence":                     {sends(hangs, start), theirs(" 4", " 5"), first + " 2 3 4 5"},
		"an error event":              {sends(ends, start, `data: {"error":{"message":"dead"}}`+"\n\n"), theirs(" 4"), first + " 2 3 4"},
		"it repeats all of it":        {sends(breaks, start), theirs(first, " 2 3", " 4"), first + " 2 3 4"},
		"it says all of it at once":   {sends(breaks, start), theirs(first + " 2 3 4"), first + " 2 3 4"},
		"it begins alike, but is new": {sends(breaks, start), theirs(first, " 2", " 7"), first + " 2 3" + first + " 2 7"},
		"it ends alike, but is new":   {sends(breaks, start), theirs(first), first + " 2 3" + first},
		"no mark at its end":          {sends(breaks, start), sends(ends, roleEvent, strings.Replace(textChunk(" 4"), "chatcmpl-1", "gen-9", 1), finishChunk("stop"), usageEvent), first + " 2 3 4"},
		"the text is complete":        {sends(breaks, start), theirs(), first + " 2 3"},
		"only the end mark was lost":  {sends(breaks, start, strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1)), answers, first + " 2 3"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, tc.local, tc.cloud, withResume, stallsSoonIf(name == "silence"))
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.readErr != nil || r.backend() != "qwen" {
				t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
			}
			if got := streamText(t, r.body); got != tc.want {
				t.Errorf("the text is %q, want %q", got, tc.want)
			}
			if name == "only the end mark was lost" {
				if len(b.cloud.requests()) != 0 {
					t.Error("the cloud was paid although it was not needed")
				}
				return
			}
			if got := b.cloud.requests(); len(got) != 1 {
				t.Fatalf("the cloud was asked %d times", len(got))
			}
			asked := gjson.ParseBytes(b.cloud.lastBody())
			last := asked.Get("messages.1")
			if last.Get("role").Str != "assistant" || last.Get("content").Str != first+" 2 3" || asked.Get("max_tokens").Int() != 97 || asked.Get("model").Str != "qwen/qwen-2.5-14b-instruct" {
				t.Errorf("the cloud was asked %s", asked.Raw)
			}
			if !strings.Contains(r.body, ": resumed by openrouter\n\n") || !strings.Contains(b.log.String(), `"resumed_by":"openrouter"`) || !strings.Contains(b.log.String(), `"detail":"qwen `) {
				t.Error("the log does not have it")
			}
		})
	}
}

// TestResumeWithoutModel: the continuation of a call that names no model has one.
func TestResumeWithoutModel(t *testing.T) {
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), sends(ends, roleEvent, textEvent, finishChunk("stop"), doneEvent), withResume,
		func(_ *plan.Config, routes map[string]models.Route) { routes["local"] = routes["local/qwen"] })
	r := b.post("/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"count"}]}`)
	if got := gjson.GetBytes(b.cloud.lastBody(), "model").Str; got != "qwen/qwen-2.5-14b-instruct" || r.readErr != nil {
		t.Errorf("the cloud was asked for %q, %v", got, r.readErr)
	}
}

// TestResumeUsage: the client that asked for the usage receives the tokens of both parts
// in one event.
func TestResumeUsage(t *testing.T) {
	second := sends(ends, roleEvent, textEvent, finishChunk("stop"), `data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}`+"\n\n", doneEvent)
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), second, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"count"}]}`)
	if want := `"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}`; strings.Count(r.body, `"usage"`) != 1 || !strings.Contains(r.body, want) {
		t.Errorf("no %s in\n%s", want, r.body)
	}
}

// TestResumeReducesMaxTokens: the tokens of the first part count towards the limit.
func TestResumeReducesMaxTokens(t *testing.T) {
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), answers, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":2,"messages":[{"role":"user","content":"count"}]}`)
	if got := streamText(t, r.body); got != " 1 2" || !strings.Contains(r.body, `"finish_reason":"length"`) || len(b.cloud.requests()) != 0 {
		t.Errorf("%d calls, %q:\n%s", len(b.cloud.requests()), got, r.body)
	}
}

// TestNoResume: if the fallback cannot continue the stream faithfully, or does not, the
// stream ends with an error event, and no backend is asked twice.
func TestNoResume(t *testing.T) {
	tool := `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}` + "\n\n"
	for name, tc := range map[string]struct {
		body  string // of the request, besides the model
		local []string
		cloud http.HandlerFunc
		calls int
	}{
		"messages twice":             {`,"messages":[]`, []string{firstChunk, textChunk(" 1")}, answers, 0},
		"a tool call":                {``, []string{firstChunk, textChunk(" 1"), tool}, answers, 0},
		"logprobs":                   {`,"logprobs":true`, []string{firstChunk, textChunk(" 1")}, answers, 0},
		"a schema":                   {`,"response_format":{"type":"json_schema","json_schema":{}}`, []string{firstChunk, textChunk("{")}, answers, 0},
		"a grammar":                  {`,"grammar":"root ::= [a]"`, []string{firstChunk, textChunk("a")}, answers, 0},
		"two choices":                {`,"n":2`, []string{firstChunk, textChunk(" 1")}, answers, 0},
		"reasoning":                  {``, []string{firstChunk, strings.Replace(textChunk("hm"), `"content"`, `"reasoning_content"`, 1)}, answers, 0},
		"an answer begun by hand":    {`,"messages":[{"role":"assistant","content":" 1"}]`, []string{firstChunk, textChunk(" 2")}, answers, 0},
		"the other one fails":        {``, []string{firstChunk, textChunk(" 1")}, status(500, `{}`), 1},
		"the other one breaks, too":  {``, []string{firstChunk, textChunk(" 1")}, sends(breaks, roleEvent, textEvent), 1},
		"the other one gives no end": {``, []string{firstChunk, textChunk(" 1")}, sends(ends, roleEvent, textEvent), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, sends(breaks, tc.local...), tc.cloud, withResume)
			messages := `,"messages":[{"role":"user","content":"x"}]`
			if strings.Contains(tc.body, "messages") && name != "messages twice" {
				messages = ""
			}
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true`+messages+tc.body+`}`)
			if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || r.readErr == nil {
				t.Errorf("%v:\n%s", r.readErr, r.body)
			}
			if got := len(b.cloud.requests()); got != tc.calls {
				t.Errorf("the cloud was asked %d times, want %d", got, tc.calls)
			}
		})
	}
	t.Run("nor for this reason", func(t *testing.T) {
		b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1")), answers, withResume, func(_ *plan.Config, routes map[string]models.Route) {
			r := routes["local/qwen"]
			r.FallbackOn = models.NewWordList("restarting")
			routes["local/qwen"] = r
		})
		if r := b.chat("local/qwen", true); !strings.Contains(r.body, `"error"`) || len(b.cloud.requests()) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the route does not want it", func(t *testing.T) {
		b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1")), answers)
		if r := b.chat("local/qwen", true); !strings.Contains(r.body, `"error"`) || len(b.cloud.requests()) != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestShortRepetitionIsKept: a short text that comes twice by chance is not a repetition.
func TestShortRepetitionIsKept(t *testing.T) {
	b := newFixture(t, sends(breaks, firstChunk, textChunk("a")), sends(ends, textChunk("a"), textChunk("a"), finishChunk("stop"), doneEvent), withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if got := streamText(t, r.body); got != "aaa" {
		t.Errorf("%q", got)
	}
}

// TestResumeCompletions: a completion is continued by a longer prompt.
func TestResumeCompletions(t *testing.T) {
	part := func(text, finish string) string {
		return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"text_completion","created":7,"model":"qwen","choices":[{"index":0,"text":%q,"logprobs":null,"finish_reason":%s}]}`+"\n\n", text, finish)
	}
	b := newFixture(t, sends(breaks, part(" 1", "null"), part(" \"2\"", "null")), sends(ends, part(" 3", "null"), part("", `"stop"`), doneEvent), withResume)
	r := b.post("/v1/completions", `{"model":"local/qwen","stream":true,"prompt":"count:"}`)
	var text string
	for line := range strings.Lines(r.body) {
		text += gjson.Get(strings.TrimPrefix(line, "data: "), "choices.0.text").Str
	}
	if text != ` 1 "2" 3` || strings.Count(r.body, "[DONE]") != 1 || r.readErr != nil {
		t.Errorf("%q, %v:\n%s", text, r.readErr, r.body)
	}
	if got := gjson.GetBytes(b.cloud.lastBody(), "prompt").Str; got != `count: 1 "2"` {
		t.Errorf("asked to go on with %q", got)
	}
}

// TestResumedMetric: the metric of resumed answers, by how they ended.
func TestResumedMetric(t *testing.T) {
	for end, cloud := range map[string]http.HandlerFunc{
		"whole": sends(ends, roleEvent, textEvent, finishChunk("stop"), doneEvent),
		"cut":   sends(breaks, roleEvent, textEvent),
		"left":  sends(hangs, roleEvent, textEvent),
	} {
		t.Run(end, func(t *testing.T) {
			b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1")), cloud, withResume)
			resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() && (end != "left" || !strings.HasPrefix(lines.Text(), ": resumed")) {
				continue
			}
			resp.Body.Close()
			b.waitIdle()
			families, err := b.router.registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				if family.GetName() == "llmsup_resumed_streams_total" {
					if got := fmt.Sprint(family.GetMetric()); len(family.GetMetric()) != 1 || !strings.Contains(got, `"`+end+`"`) {
						t.Errorf("counted: %s", got)
					}
					return
				}
			}
			t.Error("it is not counted")
		})
	}
}

// TestInvalidMaxTokens: the rest of a limit that is not a whole number is unknown, not
// zero.
func TestInvalidMaxTokens(t *testing.T) {
	for _, limit := range []string{"1e400", "-1e400", "99999999999999999999", "3.5", "1e2"} {
		b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), answers, withResume)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":`+limit+`,"messages":[{"role":"user","content":"x"}]}`)
		if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || len(b.cloud.requests()) != 0 {
			t.Errorf("%s: %d calls:\n%s", limit, len(b.cloud.requests()), r.body)
		}
	}
	for _, limit := range []string{"null", "-1", "9223372036854775807"} { // none, none, one that is far away
		b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), sends(ends, roleEvent, textEvent, finishChunk("stop"), doneEvent), withResume)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":`+limit+`,"messages":[{"role":"user","content":"x"}]}`)
		if !strings.HasSuffix(r.body, doneEvent) || len(b.cloud.requests()) != 1 {
			t.Errorf("%s: %d calls:\n%s", limit, len(b.cloud.requests()), r.body)
		}
	}
}

// TestMissingEndMarkUsage: a stream that lacks only its end mark has the usage that its
// events reported, which counts tokens without a text, too.
func TestMissingEndMarkUsage(t *testing.T) {
	last := `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"prompt_n":3,"cache_n":2,"predicted_n":4}}` + "\n\n"
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2"), last), answers, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}`)
	if want := `"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}`; !strings.Contains(r.body, want) || !strings.HasSuffix(r.body, doneEvent) || len(b.cloud.requests()) != 0 {
		t.Errorf("no %s in\n%s", want, r.body)
	}
	if !strings.Contains(b.log.String(), `"completion_tokens":4`) {
		t.Errorf("log: %s", b.log)
	}
}

// TestErrorAfterEnd: a complete stream stays complete, whatever follows it.
func TestErrorAfterEnd(t *testing.T) {
	last := strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1)
	for name, edit := range map[string]func(*plan.Config, map[string]models.Route){
		"resuming": withResume, "not": func(*plan.Config, map[string]models.Route) {},
	} {
		b := newFixture(t, sends(ends, firstChunk, textChunk(" 1"), last, doneEvent, `data: {"error":{"message":"late"}}`+"\n\n"), answers, edit)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
		if r.readErr != nil || streamText(t, r.body) != " 1" || strings.Contains(b.log.String(), `"cut"`) {
			t.Errorf("%s: %v %s", name, r.readErr, r.body)
		}
	}
}

// TestBrokenBackendIsCancelled: a backend whose stream is continued by another one is
// cancelled.
func TestBrokenBackendIsCancelled(t *testing.T) {
	b := newFixture(t, sends(hangs, firstChunk, textChunk(" 1"), `data: {"error":{"message":"failed"}}`+"\n\n"), sends(hangs, roleEvent, textEvent), withResume)
	resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case <-b.local.requestEnded:
	case <-time.After(waitLimit):
		t.Error("it still works for a stream that another backend continues")
	}
}

// TestResumedByLocalServer: a local server that continues a stream counts as working, and
// does not count as waiting while the client does not read.
func TestResumedByLocalServer(t *testing.T) {
	second := newFakeBackend(t, nil)
	server := &fakeLocal{state: backend.LocalState{Alive: true, Network: "tcp", Address: second.Listener.Addr().String(), Gone: make(chan struct{})}}
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1")), answers, func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["second"] = server
		routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "second", Resume: true, Timeout: time.Minute}
	})
	stop := make(chan struct{})
	second.handler = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for large := textChunk(strings.Repeat("x", 64<<10)); ; { // more than the sockets' buffers hold
			select {
			case <-stop:
				_, _ = io.WriteString(w, finishChunk("stop")+doneEvent)
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
	eventually(t, "the second server waits for its client only", func() bool {
		now := b.router.Load("second")
		return now.Calls == 1 && now.Waiting == 0 && now.Bytes > 128<<10
	})
	close(stop)
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), doneEvent) {
		t.Errorf("%v", err)
	}
}

// TestBound: a call in flight is bound to its server from when no other backend can continue it:
// from the start without a fallback, from the first event without resume, and from the first
// event that is no text with it.
func TestBound(t *testing.T) {
	toolChunk := `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]},"finish_reason":null}]}` + "\n\n"
	withoutFallback := func(_ *plan.Config, routes map[string]models.Route) {
		routes["local/qwen"] = models.Route{Primary: "qwen", Timeout: time.Minute}
	}
	keep := func(*plan.Config, map[string]models.Route) {}
	for name, tc := range map[string]struct {
		edit          func(*plan.Config, map[string]models.Route)
		second        string
		before, after int // bound calls before the first event, and after the second one
		text          int // after the first event
	}{
		"resume, text":          {withResume, textChunk(" 2"), 0, 0, 0},
		"resume, a tool call":   {withResume, toolChunk, 0, 1, 0},
		"a fallback, no resume": {keep, textChunk(" 2"), 0, 1, 1},
		"no fallback":           {withoutFallback, textChunk(" 2"), 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var b *fixture
			check := func(when string, want int) { // in the backend's goroutine, too
				if !holdsInTime(func() bool { return b.router.Load("qwen").Bound == want }) {
					t.Errorf("%s %d calls are bound, want %d", when, b.router.Load("qwen").Bound, want)
				}
			}
			sentText, sentSecond := make(chan struct{}), make(chan struct{})
			local := func(w http.ResponseWriter, _ *http.Request) {
				check("before its answer", tc.before)
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, firstChunk+textChunk(" 1"))
				w.(http.Flusher).Flush()
				close(sentText)
				<-sentSecond
				_, _ = io.WriteString(w, tc.second)
				w.(http.Flusher).Flush()
				check("after its second event", tc.after)
				_, _ = io.WriteString(w, finishChunk("stop")+doneEvent)
			}
			b = newFixture(t, local, answers, tc.edit)
			done := make(chan reply)
			go func() {
				done <- b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"count"}]}`)
			}()
			<-sentText
			eventually(t, "the client has its first event", func() bool { return b.router.Load("qwen").Bytes > 0 })
			check("after its first event", tc.text)
			close(sentSecond)
			if r := <-done; r.status != 200 || r.backend() != "qwen" || !strings.HasSuffix(r.body, doneEvent) {
				t.Errorf("%+v", r)
			}
			check("at its end", 0)
		})
	}
}

// TestContinuationWithoutOtherBox: a drain waits for the continuation of a stream that no other backend
// can continue.
func TestContinuationWithoutOtherBox(t *testing.T) {
	broken := make(chan struct{})
	f := newFleet(t, hangs, hangs, sends(func(w http.ResponseWriter, r *http.Request) {
		<-broken
		breaks(w, r)
	}, firstChunk+textChunk(brokenText)+textChunk(" 2")))
	gate := f.fill(sends(hangs, textChunk(" 3")))
	f.router.routing.Load().Server("qwen").Served(time.Minute)
	done := make(chan reply, 1)
	go func() { done <- f.post("/v1/chat/completions", `{"model":"local/alone"`+countStream) }()
	eventually(t, "box2 has the call", func() bool { return len(f.others[0].local.requests()) == 1 })
	close(gate)
	eventually(t, "the own box has a free slot", func() bool { return f.router.Load("qwen").Calls == 0 })
	close(broken)
	eventually(t, "a drain would wait for the continuation", func() bool { return f.router.Load("qwen").Bound == 1 })
	f.local.CloseClientConnections()
	<-done
}
