package router

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// said is an event with some text, as llama-server sends it.
func said(text string) string {
	return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`+"\n\n", text)
}

// finished is the event with a finish reason, in another one's name.
func finished(reason string) string {
	return fmt.Sprintf(`data: {"id":"gen-9","choices":[{"index":0,"delta":{"content":""},"finish_reason":%q}]}`+"\n\n", reason)
}

func resuming(_ *plan.Config, routes map[string]models.Route) {
	r := routes["local/qwen"]
	r.Resume = true
	routes["local/qwen"] = r
}

// textOf puts a stream's text together, and checks that it is one stream: one id,
// one finish, one end mark.
func textOf(t *testing.T, body string) (text string) {
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

const opening = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"qwen","choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}` + "\n\n"

// TestResume: however a stream breaks, the fallback goes on with it, and the
// client has one stream with the whole text.
func TestResume(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	start := opening + said(first) + said(" 2") + said(" 3")
	theirs := func(text ...string) http.HandlerFunc {
		events := []string{": OPENROUTER PROCESSING\n\n", roleEvent}
		for _, part := range text {
			events = append(events, `data: {"id":"gen-9","choices":[{"index":0,"delta":{"role":"assistant","content":`+wire.Quote(part)+`}}]}`+"\n\n")
		}
		return sends(ends, append(events, finished("stop"), usageEvent, doneEvent)...)
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
		"it says all of it again":     {sends(breaks, start), theirs(first, " 2 3", " 4"), first + " 2 3 4"},
		"it says all of it at once":   {sends(breaks, start), theirs(first + " 2 3 4"), first + " 2 3 4"},
		"it begins alike, but is new": {sends(breaks, start), theirs(first, " 2", " 7"), first + " 2 3" + first + " 2 7"},
		"it ends alike, but is new":   {sends(breaks, start), theirs(first), first + " 2 3" + first},
		"no mark at its end":          {sends(breaks, start), sends(ends, roleEvent, strings.Replace(said(" 4"), "chatcmpl-1", "gen-9", 1), finished("stop"), usageEvent), first + " 2 3 4"},
		"nothing is left to say":      {sends(breaks, start), theirs(), first + " 2 3"},
		"only the end mark was lost":  {sends(breaks, start, strings.Replace(finished("stop"), "gen-9", "chatcmpl-1", 1)), answers, first + " 2 3"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tc.local, tc.cloud, resuming, func(c *plan.Config, _ map[string]models.Route) { c.IdleTimeout = 300 * time.Millisecond })
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.readErr != nil || r.backend() != "qwen" {
				t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
			}
			if got := textOf(t, r.body); got != tc.want {
				t.Errorf("the text is %q, want %q", got, tc.want)
			}
			if name == "only the end mark was lost" {
				if len(b.cloud.calls()) != 0 {
					t.Error("somebody was paid for nothing")
				}
				return
			}
			if got := b.cloud.calls(); len(got) != 1 {
				t.Fatalf("the cloud was asked %d times", len(got))
			}
			asked := gjson.ParseBytes(b.cloud.lastBody())
			last := asked.Get("messages.1")
			if last.Get("role").Str != "assistant" || last.Get("content").Str != first+" 2 3" || asked.Get("max_tokens").Int() != 97 || asked.Get("model").Str != "qwen/qwen-2.5-14b-instruct" {
				t.Errorf("the cloud was asked %s", asked.Raw)
			}
			if !strings.Contains(r.body, ": resumed by openrouter\n\n") || !strings.Contains(b.log.String(), `"resumed_by":"openrouter"`) {
				t.Error("it is not told")
			}
		})
	}
}

// TestResumeUsage: both parts' tokens in one event, where the client asked.
func TestResumeUsage(t *testing.T) {
	second := sends(ends, roleEvent, textEvent, finished("stop"), `data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":5}}`+"\n\n", doneEvent)
	b := newBench(t, sends(breaks, opening, said(" 1"), said(" 2")), second, resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"count"}]}`)
	if want := `"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}`; strings.Count(r.body, `"usage"`) != 1 || !strings.Contains(r.body, want) {
		t.Errorf("no %s in\n%s", want, r.body)
	}
}

// TestResumeWithinTheLimit: what was spent before counts.
func TestResumeWithinTheLimit(t *testing.T) {
	b := newBench(t, sends(breaks, opening, said(" 1"), said(" 2")), answers, resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":2,"messages":[{"role":"user","content":"count"}]}`)
	if got := textOf(t, r.body); got != " 1 2" || !strings.Contains(r.body, `"finish_reason":"length"`) || len(b.cloud.calls()) != 0 {
		t.Errorf("%d calls, %q:\n%s", len(b.cloud.calls()), got, r.body)
	}
}

// TestNoResume: where somebody else could not go on faithfully, or does not, the
// stream ends with an error event, and nobody is asked twice.
func TestNoResume(t *testing.T) {
	tool := `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}` + "\n\n"
	for name, tc := range map[string]struct {
		body  string // of the request, besides the model
		local []string
		cloud http.HandlerFunc
		calls int
	}{
		"messages twice":             {`,"messages":[]`, []string{opening, said(" 1")}, answers, 0},
		"a tool call":                {``, []string{opening, said(" 1"), tool}, answers, 0},
		"logprobs":                   {`,"logprobs":true`, []string{opening, said(" 1")}, answers, 0},
		"a schema":                   {`,"response_format":{"type":"json_schema","json_schema":{}}`, []string{opening, said("{")}, answers, 0},
		"a grammar":                  {`,"grammar":"root ::= [a]"`, []string{opening, said("a")}, answers, 0},
		"two choices":                {`,"n":2`, []string{opening, said(" 1")}, answers, 0},
		"reasoning":                  {``, []string{opening, strings.Replace(said("hm"), `"content"`, `"reasoning_content"`, 1)}, answers, 0},
		"an answer begun by hand":    {`,"messages":[{"role":"assistant","content":" 1"}]`, []string{opening, said(" 2")}, answers, 0},
		"the other one fails":        {``, []string{opening, said(" 1")}, status(500, `{}`), 1},
		"the other one breaks, too":  {``, []string{opening, said(" 1")}, sends(breaks, roleEvent, textEvent), 1},
		"the other one gives no end": {``, []string{opening, said(" 1")}, sends(ends, roleEvent, textEvent), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sends(breaks, tc.local...), tc.cloud, resuming)
			messages := `,"messages":[{"role":"user","content":"x"}]`
			if strings.Contains(tc.body, "messages") && name != "messages twice" {
				messages = ""
			}
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true`+messages+tc.body+`}`)
			if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || r.readErr == nil {
				t.Errorf("%v:\n%s", r.readErr, r.body)
			}
			if got := len(b.cloud.calls()); got != tc.calls {
				t.Errorf("the cloud was asked %d times, want %d", got, tc.calls)
			}
		})
	}
	t.Run("nor for this reason", func(t *testing.T) {
		b := newBench(t, sends(breaks, opening, said(" 1")), answers, resuming, func(_ *plan.Config, routes map[string]models.Route) {
			r := routes["local/qwen"]
			r.FallbackOn = models.NewWordList("restarting")
			routes["local/qwen"] = r
		})
		if r := b.chat("local/qwen", true); !strings.Contains(r.body, `"error"`) || len(b.cloud.calls()) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the route does not want it", func(t *testing.T) {
		b := newBench(t, sends(breaks, opening, said(" 1")), answers)
		if r := b.chat("local/qwen", true); !strings.Contains(r.body, `"error"`) || len(b.cloud.calls()) != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestShortEcho: what is said twice by chance is no repetition.
func TestShortEcho(t *testing.T) {
	b := newBench(t, sends(breaks, opening, said("a")), sends(ends, said("a"), said("a"), finished("stop"), doneEvent), resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`)
	if got := textOf(t, r.body); got != "aaa" {
		t.Errorf("%q", got)
	}
}

// TestResumeCompletions: the older endpoint, by a longer prompt.
func TestResumeCompletions(t *testing.T) {
	part := func(text, finish string) string {
		return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"text_completion","created":7,"model":"qwen","choices":[{"index":0,"text":%q,"logprobs":null,"finish_reason":%s}]}`+"\n\n", text, finish)
	}
	b := newBench(t, sends(breaks, part(" 1", "null"), part(" \"2\"", "null")), sends(ends, part(" 3", "null"), part("", `"stop"`), doneEvent), resuming)
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

// TestResumedMetric: how answers that were continued ended.
func TestResumedMetric(t *testing.T) {
	for end, cloud := range map[string]http.HandlerFunc{
		"whole": sends(ends, roleEvent, textEvent, finished("stop"), doneEvent),
		"cut":   sends(breaks, roleEvent, textEvent),
		"left":  sends(hangs, roleEvent, textEvent),
	} {
		t.Run(end, func(t *testing.T) {
			b := newBench(t, sends(breaks, opening, said(" 1")), cloud, resuming)
			resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"x"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() && (end != "left" || !strings.HasPrefix(lines.Text(), ": resumed")) {
				continue
			}
			resp.Body.Close()
			for b.router.Inflight() > 0 {
				time.Sleep(time.Millisecond)
			}
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

// TestOddLimits: what is left of a limit that is no whole number is not known, and
// must not be taken for nothing.
func TestOddLimits(t *testing.T) {
	for _, limit := range []string{"1e400", "-1e400", "99999999999999999999", "3.5", "1e2"} {
		b := newBench(t, sends(breaks, opening, said(" 1"), said(" 2")), answers, resuming)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":`+limit+`,"messages":[{"role":"user","content":"x"}]}`)
		if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || len(b.cloud.calls()) != 0 {
			t.Errorf("%s: %d calls:\n%s", limit, len(b.cloud.calls()), r.body)
		}
	}
	for _, limit := range []string{"null", "-1", "9223372036854775807"} { // none, none, one that is far away
		b := newBench(t, sends(breaks, opening, said(" 1"), said(" 2")), sends(ends, roleEvent, textEvent, finished("stop"), doneEvent), resuming)
		r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":`+limit+`,"messages":[{"role":"user","content":"x"}]}`)
		if !strings.HasSuffix(r.body, doneEvent) || len(b.cloud.calls()) != 1 {
			t.Errorf("%s: %d calls:\n%s", limit, len(b.cloud.calls()), r.body)
		}
	}
}
