package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// engineTemplate writes tool calls between tildes, so that a bias on that one
// token makes the counting model call a tool, and reasoning as Qwen does.
const engineTemplate = `{%- if tools %}{{- '<|system|>Tools:' }}
{%- for tool in tools %}{{- "\n" + (tool | tojson) }}{%- endfor %}{%- endif %}
{%- for message in messages %}{{- '<|' + message.role + '|>' }}
{%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{%- endif %}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- if message.tool_calls %}{%- for tool_call in message.tool_calls %}
{{- '~{"name": "' + tool_call.function.name + '", "arguments": ' + (tool_call.function.arguments | tojson) + '}~' }}
{%- endfor %}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}`

// engine is a real llama-server on the counting model.
type engine struct {
	t      *testing.T
	socket string
	client *http.Client
}

// startEngine runs one for as long as the test lasts.
func startEngine(t *testing.T, args ...string) engine {
	t.Helper()
	program := os.Getenv("LLMSUP_TEST_LLAMA_SERVER")
	if program == "" {
		found, err := exec.LookPath("llama-server")
		if err != nil {
			t.Fatal("no llama-server in LLMSUP_TEST_LLAMA_SERVER nor on PATH: run scripts/test.sh, which gets one")
		}
		program = found
	}
	// A socket's path has at most 107 bytes, and t.TempDir has the test's name in it.
	dir, err := os.MkdirTemp("/tmp", "llmsup") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	model, err := demo.Ensure(dir)
	if err != nil {
		t.Fatal(err)
	}
	template := filepath.Join(dir, "template")
	if err := os.WriteFile(template, []byte(engineTemplate), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s.sock")
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, append([]string{
		"--model", model, "--host", socket, "--port", "1", "--alias", "demo",
		"--ctx-size", "16384", "--parallel", "4", "--threads", "1", "--jinja", "--chat-template-file", template,
	}, args...)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	// Should the test itself be killed, the kernel kills the server. It does so when
	// the thread ends that started it, which therefore waits with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start llama-server: %v", err)
	}
	t.Cleanup(func() {
		<-exited // the test's context has ended, and with it the server
		if t.Failed() {
			said := output.String()
			t.Logf("the last output of llama-server:\n%s", said[max(0, len(said)-4000):])
		}
	})
	e := engine{t: t, socket: socket, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			t.Fatal("llama-server ended before it was ready")
		case <-deadline:
			t.Fatal("llama-server is not ready after a minute")
		case <-tick.C:
		}
		if answer, err := e.client.Get("http://llama-server/health"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return e
			}
		}
	}
}

func (e engine) post(path string, body io.Reader) (status int, answer string) {
	e.t.Helper()
	resp, err := e.client.Post("http://llama-server"+path, "application/json", body)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// aggregateStream aggregates a whole stream.
func aggregateStream(s aggregate.Form, stream io.Reader) (string, error) {
	a, events := s.Aggregator(), wire.NewEventReader(stream)
	for {
		e, err := events.Next()
		if err == nil {
			err = a.Add(e)
		}
		if errors.Is(err, io.EOF) {
			whole, err := a.Result()
			return string(whole), err
		}
		if err != nil {
			return "", err
		}
	}
}

// comparable is an answer without what differs from call to call: ids and times.
func comparable(t *testing.T, answer string) any {
	t.Helper()
	var object any
	if err := json.Unmarshal([]byte(answer), &object); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	var clean func(v any)
	clean = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, element := range v {
				clean(element)
			}
		case map[string]any:
			for name, value := range v {
				_, isText := value.(string) // a token's id is a number
				if (name == "id" || name == "call_id") && isText || name == "created" || strings.HasSuffix(name, "ed_at") || strings.HasSuffix(name, "_ms") || strings.HasSuffix(name, "_per_second") {
					v[name] = fmt.Sprintf("%T", value)
				}
				clean(value)
			}
		}
	}
	clean(object)
	return object
}

// compareForms asks the engine with and without a stream. It returns why the stream was
// refused; nil if the answers are the same.
func (e engine) compareForms(path, raw string) (answer string, refused error) {
	e.t.Helper()
	b, err := request.ParseBody([]byte(raw))
	if err != nil {
		e.t.Fatalf("%v: %s", err, raw)
	}
	s, ok := aggregate.AsStream(b, path)
	if !ok {
		e.t.Fatalf("%s does not stream: %s", path, raw)
	}
	wantStatus, want := e.post(path, strings.NewReader(raw))
	status, got := e.post(path, s.WithModel("other").Open())
	whole, err := "", error(nil)
	if status == http.StatusOK {
		whole, err = aggregateStream(s, strings.NewReader(got))
		if failed := (*aggregate.LocalError)(nil); errors.As(err, &failed) {
			status, got, err = failed.Status, failed.Body, nil
		}
	}
	if status != wantStatus || status != http.StatusOK && got != want {
		e.t.Fatalf("%s\nwhole:    %d %s\nstreamed: %d %s", raw, wantStatus, want, status, tail(got))
	}
	if status != http.StatusOK {
		return got, nil
	}
	if err != nil {
		if !errors.Is(err, aggregate.ErrNotSame) {
			e.t.Fatalf("%s\n%v in\n%s", raw, err, tail(got))
		}
		return "", err
	}
	if !reflect.DeepEqual(comparable(e.t, whole), comparable(e.t, want)) {
		e.t.Errorf("%s\nwhole:    %s\nstreamed: %s\nfrom\n%s", raw, want, whole, tail(got))
	}
	return whole, nil
}

// tail is the end of a long text.
func tail(s string) string { return s[max(0, len(s)-3000):] }

const (
	oneTool      = `"tools":[{"type":"function","function":{"name":"weather","description":"d","parameters":{"type":"object","properties":{"city":{"enum":["Rome","Zürich"]}},"required":["city"]}}}]`
	twoTools     = `"tools":[{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}},{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":5},"days":{"type":"integer"}},"required":["city","days"]}}}]`
	schemaFormat = `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"enum":["x","é"]},"b":{"type":"boolean"}},"required":["a","b"]}}}`
)

// chatFields and textFields are what the bodies are made of: of each group one
// is taken, and one that is empty adds nothing.
var (
	anyFields = [][]string{
		{
			`"max_tokens":90`, `"max_tokens":80`, `"max_tokens":100`, `"n_predict":90`, `"max_completion_tokens":85`,
			`"max_tokens":90`, `"max_tokens":40`, `"max_tokens":23`, `"max_tokens":5`, `"max_tokens":1`,
		},
		{``, ``, ``, `"n":1`, `"n":2`, `"n":3`, `"n":3`, `"n":null`},
		{`"seed":7`, `"seed":0`, `"seed":123`},
		{``, ``, `"stream":false`, `"stream":null`},
		{``, ``, `"user":"u"`, `"metadata":{"a":"b"},"store":true`, `"service_tier":"auto"`, `"safety_identifier":"x","prompt_cache_key":"y"`},
		{``, ``, `"top_p":0.9`, `"top_k":5,"min_p":0.01`, `"presence_penalty":0.1,"frequency_penalty":0.1`, `"repeat_penalty":1.1,"repeat_last_n":64`, `"samplers":["top_k","temperature"]`, `"typical_p":0.9,"top_n_sigma":3`, `"dynatemp_range":0.1,"dynatemp_exponent":1`, `"mirostat":0,"mirostat_tau":5,"mirostat_eta":0.1`, `"xtc_probability":0,"xtc_threshold":0.1`, `"dry_multiplier":0,"dry_base":1.75,"dry_allowed_length":2,"dry_penalty_last_n":10`, `"ignore_eos":true`, `"min_keep":1`},
	}
	stops    = []string{``, ``, ``, `"stop":[" 7"]`, `"stop":" 12 13"`, `"stop":[" 5 6 7 8"," 21"]`, `"stop":[]`, `"stop":[" 1"]`, `"stop":["\n","é"]`, `"stop":null`}
	produced = []string{``, ``, `"grammar":"root ::= \"<think>a b </think> c\\nd\""`, `"grammar":"root ::= \"<think>only\""`, `"grammar":"root ::= \"<think></think>\""`, `"grammar":"root ::= \"  h\u00e9\ud83d\ude00 \\\\ \\\" x\\n\""`, `"grammar":"root ::= \"\""`, `"grammar":"root ::= \"\ud83d\ude00\""`, `"json_schema":{"type":"object","properties":{"a":{"type":"null"}},"required":["a"]}`}
	chatOnly = [][]string{
		{
			`"messages":[{"role":"user","content":"hi"}]`, `"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"é 5"}]}]`,
			`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"2998"}]`,
			`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"now","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"12"}]`,
		},
		{``, ``, `"reasoning_format":"none"`, `"reasoning_format":"auto"`, `"reasoning_format":"deepseek"`},
		{``, ``, `"logprobs":false`, `"logprobs":null`},
		{``, ``, `"chat_template_kwargs":{"enable_thinking":false}`, `"reasoning_effort":"low"`},
	}
	chatProduced = append([]string{
		`"response_format":{"type":"json_object"}`, schemaFormat, `"response_format":{"type":"text"}`,
		oneTool, twoTools + `,"tool_choice":"auto"`, twoTools + `,"tool_choice":"none"`,
		oneTool + `,"tool_choice":"required","logit_bias":[["~",100],["\n",-100]]`,
		oneTool + `,"logit_bias":[["~",100],["\n",-100]]`,
		oneTool + `,"parallel_tool_calls":true,"logit_bias":[["~",100],["\n",-100]]`,
		twoTools + `,"parallel_tool_calls":false,"tool_choice":"required","logit_bias":{"~":100}`,
		twoTools + `,"parallel_tool_calls":true,"tool_choice":"required","logit_bias":[["~",100],["\n",-100],["w",50]]`,
		// Text first, and a call somewhere in it.
		twoTools + `,"logit_bias":[["~",61],["\n",-100],["w",50]],"temperature":1`,
		twoTools + `,"parallel_tool_calls":true,"logit_bias":[["~",62],["\n",-100]],"temperature":1`,
	}, produced...)
	textOnly = [][]string{
		{`"prompt":" 5"`, `"prompt":"é"`, `"prompt":[300,301]`, `"prompt":[" 2996"]`, `"prompt":" 2990"`},
	}
	textLogprobs = []string{`"logprobs":1`, `"logprobs":3`, `"logprobs":0`}
)

// randomBody takes one of each group, in any order.
func randomBody(r *rand.Rand, chat bool) string {
	one := func(group []string) string { return group[r.IntN(len(group))] }
	groups := anyFields
	var fields []string
	if chat {
		groups = append(chatOnly, groups...)
		fields = append(fields, one(chatProduced), one(stops))
	} else {
		groups = append(textOnly, groups...)
		fields = append(fields, one(produced))
		if r.IntN(3) == 0 {
			fields = append(fields, one(textLogprobs))
		} else {
			fields = append(fields, one(stops))
		}
	}
	for _, group := range groups {
		fields = append(fields, one(group))
	}
	fields = append(fields, `"model":"demo"`, `"cache_prompt":false`)
	if all := strings.Join(fields, ","); !strings.Contains(all, `"temperature"`) {
		fields = append(fields, `"temperature":0`)
	}
	r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	raw := ""
	for _, field := range fields {
		if field != "" {
			raw += ", " + field
		}
	}
	return " {" + strings.TrimPrefix(raw, ",") + "\n}"
}

// TestAggregatedEqualsNonStreaming: an aggregated stream is the answer that llama-server
// gives without a stream.
func TestAggregatedEqualsNonStreaming(t *testing.T) {
	e := startEngine(t)
	t.Run("random bodies", e.testRandomBodies)
	t.Run("cut anywhere", e.testTruncatedAnywhere)
	t.Run("odd bodies", e.testUnusualBodies)
	t.Run("without the end", e.testWithoutEnd)
}

// features are what the random answers have to have had among them.
var features = map[string]func(answer gjson.Result) bool{
	"an error":       func(a gjson.Result) bool { return a.Get("error").Exists() },
	"text":           func(a gjson.Result) bool { return a.Get("choices.0.text").Str != "" },
	"content":        func(a gjson.Result) bool { return a.Get("choices.0.message.content").Str != "" },
	"no content":     func(a gjson.Result) bool { return a.Get("choices.0.message.content").Raw == `""` },
	"reasoning":      func(a gjson.Result) bool { return a.Get("choices.0.message.reasoning_content").Exists() },
	"a tool call":    func(a gjson.Result) bool { return a.Get("choices.0.message.tool_calls.0").Exists() },
	"two tool calls": func(a gjson.Result) bool { return a.Get("choices.0.message.tool_calls.1").Exists() },
	"text and a call": func(a gjson.Result) bool {
		return a.Get("choices.0.message.tool_calls").Exists() && a.Get("choices.0.message.content").Str != ""
	},
	"choices":          func(a gjson.Result) bool { return a.Get("choices.2").Exists() },
	"logprobs":         func(a gjson.Result) bool { return a.Get("choices.0.logprobs.content.0.top_logprobs.0").Exists() },
	"stop":             func(a gjson.Result) bool { return a.Get("choices.0.finish_reason").Str == "stop" },
	"length":           func(a gjson.Result) bool { return a.Get("choices.0.finish_reason").Str == "length" },
	"calls as the end": func(a gjson.Result) bool { return a.Get("choices.0.finish_reason").Str == "tool_calls" },
}

func (e engine) testRandomBodies(t *testing.T) {
	e.t = t
	r := rand.New(rand.NewPCG(1, 2))
	asked, refused, seen := 0, map[string]int{}, map[string]int{}
	total := 0
	for until := time.Now().Add(randomTestTime()); !t.Failed() && (time.Now().Before(until) || len(seen) < len(features) && asked < 600); asked++ {
		path := "/v1/completions"
		if asked%4 > 0 {
			path = "/v1/chat/completions"
		}
		answer, err := e.compareForms(path, randomBody(r, path != "/v1/completions"))
		if err != nil {
			refused[err.Error()]++
			total++
		}
		for name, has := range features {
			if has(gjson.Parse(answer)) {
				seen[name]++
			}
		}
	}
	t.Logf("%d calls, in which were seen %v; refused: %v", asked, seen, refused)
	if total > asked/3 || len(seen) < len(features) {
		t.Errorf("of %d calls %d streams could not be put together: %v; in the others were seen %v", asked, total, refused, seen)
	}
}

// testTruncatedAnywhere truncates answers after each of their tokens.
func (e engine) testTruncatedAnywhere(t *testing.T) {
	e.t = t
	for name, fields := range map[string]string{
		"tool calls": twoTools + `,"parallel_tool_calls":true,"tool_choice":"required","logit_bias":[["~",100],["\n",-100],["w",50]]`,
		"schema":     schemaFormat,
		"reasoning":  `"grammar":"root ::= \"<think>a b </think> é c\""`,
		"stops":      `"stop":[" 5 6 7 8"," 12 13 15"]`,
	} {
		refused := 0
		for tokens := 1; tokens <= 45; tokens += 3 {
			_, err := e.compareForms("/v1/chat/completions", fmt.Sprintf(`{"model":"demo","messages":[{"role":"user","content":"a"}],
				"cache_prompt":false,"temperature":0,"max_tokens":%d,%s}`, tokens, fields))
			if err != nil {
				refused++
			}
		}
		t.Logf("%s: %d refused", name, refused)
	}
}

// testWithoutEnd removes the end of streams that have all tokens that they may have: the
// aggregated answer is the same, or is refused.
func (e engine) testWithoutEnd(t *testing.T) {
	e.t = t
	r := rand.New(rand.NewPCG(3, 4))
	mended := 0
	for _, lost := range []string{`"finish_reason":"length"`, `"usage":`, `[DONE]`} {
		for _, bias := range []string{`"temperature":0`, `"logit_bias":[["\n",100]]`, `"logit_bias":[[" ",100]]`, `"logit_bias":[["<",60],["\n",60],["t",60]],"temperature":1.5`, `"grammar":"root ::= \"<think>a b </think> c\""`, `"stop":[" 5 6"]`, oneTool} {
			for n := range 8 {
				path, what := "/v1/completions", `"prompt":" 5"`
				if n%4 > 0 {
					path, what = "/v1/chat/completions", `"messages":[{"role":"user","content":"hi"}]`
				}
				if path == "/v1/completions" && bias == oneTool {
					continue
				}
				raw := fmt.Sprintf(`{%s,%s,"max_tokens":%d,"cache_prompt":false,"seed":%d}`, what, bias, 1+r.IntN(30), n)
				b, err := request.ParseBody([]byte(raw))
				if err != nil {
					t.Fatal(err)
				}
				s, ok := aggregate.AsStream(b, path)
				if !ok {
					t.Fatalf("%s does not stream", raw)
				}
				_, want := e.post(path, strings.NewReader(raw))
				_, stream := e.post(path, s.WithModel("demo").Open())
				a, events := s.Aggregator(), wire.NewEventReader(strings.NewReader(stream))
				for {
					event, err := events.Next()
					if err != nil || bytes.Contains(event.Raw, []byte(lost)) || a.Add(event) != nil {
						break
					}
				}
				if whole, ok := a.ResultAtLimit(); ok {
					mended++
					if !reflect.DeepEqual(comparable(t, string(whole)), comparable(t, want)) {
						t.Errorf("without %s: %s\nwhole:  %s\nmended: %s\nof %s", lost, raw, want, whole, tail(stream))
					}
				}
			}
		}
	}
	if mended < 80 {
		t.Errorf("%d streams were mended", mended)
	}
	t.Logf("%d streams were mended", mended)
}

func (e engine) testUnusualBodies(t *testing.T) {
	e.t = t
	for name, tc := range map[string]struct{ path, raw string }{
		"too long for the context": {"/v1/chat/completions", `{"messages":[{"role":"user","content":"` + strings.Repeat("long ", 5000) + `"}]}`},
		"too many choices":         {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"n":9}`},
		"a huge number":            {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"temperature":1e400}`},
		"a wrong type":             {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"max_tokens":"many"}`},
		"a broken schema":          {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"nonsense"}}}}`},
		"a broken grammar":         {"/v1/completions", `{"prompt":"a","grammar":"root ::= nothing"}`},
		"no such token":            {"/v1/completions", `{"prompt":[99999999]}`},
		"an error in mid-stream":   {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"ignore_eos":true,"max_tokens":9,"temperature":0,"grammar":"root ::= \"abc\""}`},
	} {
		if answer, err := e.compareForms(tc.path, tc.raw); err != nil || !gjson.Get(answer, "error").Exists() {
			t.Errorf("%s: %s, %v; want an error of the engine's", name, answer, err)
		}
	}
	for name, tc := range map[string]struct{ path, raw string }{
		"spaces":           {"/v1/completions", " \n{ \"prompt\" : \"a\" , \"cache_prompt\":false,\"stream\"\t:\nnull, \"temperature\":0,\"max_tokens\":2 } "},
		"nothing to say":   {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"cache_prompt":false,"grammar":"root ::= \"\""}`},
		"stopped at once":  {"/v1/completions", `{"prompt":" 5","cache_prompt":false,"temperature":0,"stop":[" 6"]}`},
		"an empty prompt":  {"/v1/completions", `{"prompt":"","max_tokens":2,"temperature":0}`},
		"the model's end":  {"/v1/completions", `{"prompt":" 2990","cache_prompt":false,"temperature":0,"logprobs":2}`},
		"everything twice": {"/v1/chat/completions", `{"messages":[{"role":"user","content":"a"}],"cache_prompt":false,"temperature":0,"max_tokens":200,"n":2}`},
	} {
		if answer, err := e.compareForms(tc.path, tc.raw); err != nil || !gjson.Get(answer, "choices.0").Exists() {
			t.Errorf("%s: %s, %v", name, answer, err)
		}
	}
}

// randomTestTime is how long the engine is asked at random; LLMSUP_TEST_ENGINE_TIME
// makes it longer.
func randomTestTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("LLMSUP_TEST_ENGINE_TIME")); err == nil {
		return d
	}
	return 3 * time.Second
}
