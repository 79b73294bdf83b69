package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3/responses"
	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// recordedEngine is a real llama-server whose answers are recorded.
type recordedEngine struct {
	mu       sync.Mutex
	recorded *bytes.Buffer // the last answer's body
}

// last returns the body of the last answer.
func (r *recordedEngine) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recorded.String()
}

// handler passes requests on to the engine.
func (r *recordedEngine) handler(e engine) http.HandlerFunc {
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: "llama-server"}) },
		FlushInterval: -1,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", e.socket)
			},
		},
		ModifyResponse: func(resp *http.Response) error {
			recorded := &bytes.Buffer{}
			r.mu.Lock()
			r.recorded = recorded
			r.mu.Unlock()
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(resp.Body, recorded), resp.Body}
			return nil
		},
	}
	return func(w http.ResponseWriter, req *http.Request) {
		var err error
		req.Body, err = req.GetBody()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, req)
	}
}

// newRecordedFixture is a fixture whose local server is a real llama-server.
func newRecordedFixture(t *testing.T, e engine) (*fixture, *recordedEngine) {
	t.Helper()
	b, r := newFixture(t, nil, answers), &recordedEngine{}
	pass := r.handler(e)
	b.local.handler = func(w http.ResponseWriter, req *http.Request) {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.local.lastBody())), nil }
		pass(w, req)
	}
	b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
	return b, r
}

// withCompleteResponses makes the local server one whose answers at /v1/responses lack
// nothing, so that the router passes them on as they are.
func withCompleteResponses(cfg *plan.Config, _ map[string]models.Route) {
	engine := cfg.Engine
	engine.PartialResponses = false
	cfg.Locals["qwen"].(*fakeLocal).engine = &engine
}

// eventsOf returns the events of a stream, and fails on one that is incomplete.
func eventsOf(t *testing.T, stream string) (events []wire.Event) {
	t.Helper()
	r := wire.NewEventReader(strings.NewReader(stream))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil || e.Cut {
			t.Fatalf("%v after %d events of %s", err, len(events), stream)
		}
		if e.Data != nil {
			events = append(events, wire.Event{Raw: bytes.Clone(e.Raw), Name: bytes.Clone(e.Name), Data: bytes.Clone(e.Data)})
		}
	}
}

// missing returns the fields that OpenAI's schema requires and v lacks, by their paths. v is
// a type of openai-go, read from JSON.
func missing(v reflect.Value, path string) (fields []string) {
	if any := v.MethodByName("AsAny"); any.IsValid() {
		variant := any.Call(nil)[0]
		if variant.IsNil() {
			return []string{path + " (an unknown type)"}
		}
		v = variant.Elem()
	}
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			fields = append(fields, missing(v.Index(i), fmt.Sprintf("%s.%d", path, i))...)
		}
	}
	if v.Kind() != reflect.Struct || !v.FieldByName("JSON").IsValid() {
		return fields
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name := field.Tag.Get("json")
		read := v.FieldByName("JSON").FieldByName(field.Name)
		if name == "-" || !read.IsValid() {
			continue
		}
		raw := read.MethodByName("Raw").Call(nil)[0].String()
		required := field.Tag.Get("api") == "required" || field.Tag.Get("default") != ""
		switch {
		case raw == "" && required:
			fields = append(fields, path+"."+name)
		case raw != "" && raw != "null":
			fields = append(fields, missing(v.Field(i), path+"."+name)...)
		}
	}
	return fields
}

// missingIn returns the fields that an answer lacks: an event of a stream, or a whole one.
func missingIn(t *testing.T, data []byte, stream bool) []string {
	t.Helper()
	if stream {
		v := &responses.ResponseStreamEventUnion{}
		if err := v.UnmarshalJSON(data); err != nil {
			t.Errorf("%v in %s", err, data)
		}
		return missing(reflect.ValueOf(v).Elem(), v.Type)
	}
	v := &responses.Response{}
	if err := v.UnmarshalJSON(data); err != nil {
		t.Errorf("%v in %s", err, data)
	}
	return missing(reflect.ValueOf(v).Elem(), "")
}

// added returns an error unless whole is part with members added at the end of its objects.
func added(part, whole gjson.Result) error {
	if !part.IsObject() && !part.IsArray() {
		if part.Raw != whole.Raw {
			return fmt.Errorf("%s became %s", part.Raw, whole.Raw)
		}
		return nil
	}
	type member struct{ key, value gjson.Result }
	members := func(of gjson.Result) (all []member) {
		of.ForEach(func(key, value gjson.Result) bool { all = append(all, member{key, value}); return true })
		return all
	}
	were, are := members(part), members(whole)
	if len(are) < len(were) || part.IsArray() != whole.IsArray() || part.IsArray() && len(are) != len(were) {
		return fmt.Errorf("%s became %s", part.Raw, whole.Raw)
	}
	for i := range were {
		if were[i].key.Raw != are[i].key.Raw {
			return fmt.Errorf("%s became %s", were[i].key.Raw, are[i].key.Raw)
		}
		if err := added(were[i].value, are[i].value); err != nil {
			return err
		}
	}
	return nil
}

// addedToStream returns an error unless the events of a stream are those of a llama-server
// with fields added, beside the events that package responses documents.
func addedToStream(server, client []wire.Event) error {
	next := 0
	for _, was := range server {
		kind := gjson.GetBytes(was.Data, "type").Str
		for ; next < len(client) && isInserted(client[next], was); next++ {
		}
		if next == len(client) {
			return fmt.Errorf("%s is missing", was.Raw)
		}
		is := client[next]
		if isKind := gjson.GetBytes(is.Data, "type").Str; kind != isKind && (kind == "response.created" || kind == "response.in_progress") {
			continue // repeated
		}
		frame := strings.Replace(string(is.Raw), string(is.Data), string(was.Data), 1)
		if kind == "" {
			frame = strings.TrimPrefix(frame, "event: error\n")
		}
		if frame != string(was.Raw) {
			return fmt.Errorf("%s became %s", was.Raw, is.Raw)
		}
		if err := added(gjson.ParseBytes(was.Data), gjson.ParseBytes(is.Data)); err != nil {
			return err
		}
		next++
	}
	if next < len(client) {
		return fmt.Errorf("%s is new", client[next].Raw)
	}
	return nil
}

// isInserted reports whether an event is one that llama-server does not send, before was.
func isInserted(e, was wire.Event) bool {
	kind := gjson.GetBytes(e.Data, "type").Str
	switch gjson.GetBytes(was.Data, "type").Str {
	case "response.completed":
		return kind == "response.created" || kind == "response.in_progress"
	case "response.reasoning_text.delta":
		return kind == "response.content_part.added"
	case "response.output_item.done":
		switch gjson.GetBytes(was.Data, "item.type").Str {
		case "reasoning":
			return kind == "response.reasoning_text.done" || kind == "response.content_part.done"
		case "function_call":
			return kind == "response.function_call_arguments.done"
		}
	}
	return false
}

// outOfOrder returns an error unless a client that keeps a copy of the answer, as openai-node
// does, can apply each event to it.
func outOfOrder(events []wire.Event) error {
	var parts []int // of each item
	for n, e := range events {
		v := gjson.ParseBytes(e.Data)
		kind, item, content := v.Get("type").Str, int(v.Get("output_index").Int()), int(v.Get("content_index").Int())
		if v.Get("sequence_number").Raw != fmt.Sprint(n) {
			return fmt.Errorf("event %d is %s", n, e.Data)
		}
		begins := kind == "response.created" || kind == "response.in_progress"
		switch {
		case begins != (n < 2) && kind != "error", string(e.Name) != kind:
			return fmt.Errorf("event %d is %s", n, e.Raw)
		case kind == "response.output_item.added":
			if item != len(parts) {
				return fmt.Errorf("item %d is %s", len(parts), e.Data)
			}
			parts = append(parts, 0)
		case kind == "response.content_part.added":
			if content != parts[item] {
				return fmt.Errorf("part %d is %s", parts[item], e.Data)
			}
			parts[item]++
		case v.Get("content_index").Exists() && (item >= len(parts) || content >= parts[item]), v.Get("output_index").Exists() && item >= len(parts):
			return fmt.Errorf("no item or part for %s", e.Data)
		}
	}
	return nil
}

// responseCalls are calls of /v1/responses and what their answer has.
var responseCalls = map[string]struct {
	engine, fields string
	has            string // of the whole answer
}{
	"text":        {"", `"input":"hi","max_output_tokens":7`, `output.#(type=="message").content.0.text`},
	"the request": {"", `"input":"hi","max_output_tokens":3,"temperature":0.5,"top_p":0.9,"metadata":{"a":"b"},"instructions":"be brief","parallel_tool_calls":false,"tool_choice":"none",` + responsesTool, "instructions"},
	"emoji":       {"", `"input":"hi","grammar":"root ::= \"\ud83d\ude00 hello\""`, `output.#(type=="message").content.0.text`},
	"nothing":     {"", `"input":"hi","grammar":"root ::= \"\""`, "output"},
	"reasoning":   {"", `"input":"hi","grammar":"root ::= \"<think>a b </think> c\\nd\""`, `output.#(type=="reasoning").content.0.text`},
	"thought":     {"", `"input":"hi","grammar":"root ::= \"<think>a b\""`, `output.#(type=="reasoning")`},
	"tool call":   {"calls", `"input":"hi","max_output_tokens":300,"temperature":0,"tool_choice":"required",` + responsesTool, `output.#(type=="function_call").arguments`},
	"half a call": {"calls", `"input":"hi","max_output_tokens":20,"temperature":0,"tool_choice":"required",` + responsesTool, "output"},
	"an error":    {"", `"input":"hi","ignore_eos":true,"max_output_tokens":9,"temperature":0,"grammar":"root ::= \"abc\""`, "error.message"},
}

// TestLocalResponsesMatchSchema: a real llama-server's answers at /v1/responses have all that
// OpenAI's schema requires, and what the server sent is in them as it was.
func TestLocalResponsesMatchSchema(t *testing.T) {
	fixtures, recorded := map[string]*fixture{}, map[string]*recordedEngine{}
	for name, args := range map[string][]string{"": nil, "calls": {"--logit-bias", "2+100", "--logit-bias", "129+95", "--logit-bias", "13-100"}} {
		fixtures[name], recorded[name] = newRecordedFixture(t, startEngine(t, args...))
	}
	for name, tc := range responseCalls {
		t.Run(name, func(t *testing.T) {
			b, r := fixtures[tc.engine], recorded[tc.engine]
			streamed := b.post("/v1/responses", `{"model":"local/alone","stream":true,`+tc.fields+`}`)
			events, own := eventsOf(t, streamed.body), eventsOf(t, r.last())
			if err := errors.Join(addedToStream(own, events), outOfOrder(events)); err != nil {
				t.Errorf("%v in\n%s\nllama-server sent\n%s", err, streamed.body, r.last())
			}
			lacked := 0
			for _, e := range own {
				lacked += len(missingIn(t, e.Data, true))
			}
			for _, e := range events {
				if lacks := missingIn(t, e.Data, true); len(lacks) > 0 {
					t.Errorf("%s lacks %q", e.Data, lacks)
				}
			}
			if lacked == 0 {
				t.Error("llama-server's own events lack nothing: the test shows nothing")
			}
			answer := b.post("/v1/responses", `{"model":"local/alone",`+tc.fields+`}`).body
			if !gjson.Get(answer, tc.has).Exists() {
				t.Errorf("no %s in %s", tc.has, answer)
			}
			if lacks := missingIn(t, []byte(answer), false); len(lacks) > 0 && tc.has != "error.message" {
				t.Errorf("%s lacks %q", answer, lacks)
			}
		})
	}
}

// TestLocalResponsesKeepBytes compares what a real llama-server sends with what the client
// receives, for answers of four kinds that end after any of their tokens: only what package
// responses documents is new. Streams that a call without a stream is answered from are
// compared after they are aggregated.
func TestLocalResponsesKeepBytes(t *testing.T) {
	text, textRecorder := newRecordedFixture(t, startEngine(t))
	calls, callsRecorder := newRecordedFixture(t, startEngine(t, "--logit-bias", "2+100", "--logit-bias", "129+95", "--logit-bias", "13-100"))
	for name, tc := range map[string]struct {
		b      *fixture
		r      *recordedEngine
		fields string
		step   int // tokens
	}{
		"text":      {text, textRecorder, `"input":"hi"`, 1},
		"reasoning": {text, textRecorder, `"input":"hi","grammar":"root ::= \"<think>a b </think> c\\nd\""`, 1},
		"emoji":     {text, textRecorder, `"input":"hi","grammar":"root ::= \"\ud83d\ude00 hello \ud83d\ude00\""`, 1},
		"tool call": {calls, callsRecorder, `"input":"hi","temperature":0,"tool_choice":"required",` + responsesTool, 3},
	} {
		t.Run(name, func(t *testing.T) {
			for n := range 27 {
				fields := fmt.Sprintf(`%s,"max_output_tokens":%d`, tc.fields, 1+n*tc.step)
				streamed := tc.b.post("/v1/responses", `{"model":"local/alone","stream":true,`+fields+`}`)
				events := eventsOf(t, streamed.body)
				if err := errors.Join(addedToStream(eventsOf(t, tc.r.last()), events), outOfOrder(events)); err != nil || streamed.status != 200 {
					t.Errorf("%s: %d, %v", fields, streamed.status, err)
				}
				call := `{"model":"local/alone",` + fields + `}`
				whole := tc.b.post("/v1/responses", call)
				own := tc.r.last()
				if strings.HasPrefix(own, "event:") {
					form, _ := aggregate.AsStream(parseRequest(t, call), "/v1/responses")
					var err error
					if own, err = aggregateStream(form, strings.NewReader(own)); err != nil {
						t.Fatal(err)
					}
				}
				if err := added(gjson.Parse(own), gjson.Parse(whole.body)); err != nil || whole.status != 200 {
					t.Errorf("%s: %d, %v", fields, whole.status, err)
				}
			}
		})
	}
}

// TestResponsesOfFallback: what a local server sent before it failed does not count. The
// client receives the upstream's own events, whose numbers begin with its first one.
func TestResponsesOfFallback(t *testing.T) {
	const upstream = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"x\"}\n\n"
	const end = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{}}\n\n"
	for name, tc := range map[string]struct {
		cloud http.HandlerFunc
		want  string
	}{
		"an answer":        {sends(ends, upstream, end), upstream + end},
		"one that is lost": {sends(ends, upstream), upstream + "event: error\ndata: {\"type\":\"error\",\"code\":\"lost\",\"message\":\"openrouter: connection lost in the middle of the answer: the stream has no end mark\",\"param\":null,\"sequence_number\":2}\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, sends(breaks, localAnswer[0]), tc.cloud)
			if r := b.post("/v1/responses", `{"model":"local/qwen","stream":true,"input":"hi"}`); r.body != tc.want || r.reason() != "lost" {
				t.Errorf("%d, %q: %s", r.status, r.reason(), r.body)
			}
		})
	}
}

// TestLocalResponseIsLost: the error event has the number after that of the last event.
func TestLocalResponseIsLost(t *testing.T) {
	b := newFixture(t, sends(breaks, localAnswer[0], localAnswer[1]), answers)
	r := b.post("/v1/responses", `{"model":"local/qwen","stream":true,"input":"hi"}`)
	events := eventsOf(t, r.body)
	last := events[len(events)-1]
	if len(events) != 3 || string(last.Name) != "error" || len(missingIn(t, last.Data, true)) > 0 || gjson.GetBytes(last.Data, "sequence_number").Raw != "2" {
		t.Errorf("%d: %s", r.status, r.body)
	}
}

// TestInputIsCompleted: an assistant's message without a type, as the AI SDK sends it, and an
// upstream's reasoning are accepted by a real llama-server. An upstream receives them as the
// client wrote them.
func TestInputIsCompleted(t *testing.T) {
	b, _ := newRecordedFixture(t, startEngine(t))
	for name, item := range map[string]string{
		"a message": `{"role":"assistant","content":[{"type":"output_text","text":"b"}],"id":"m"}`,
		"reasoning": `{"type":"reasoning","id":"r","summary":[],"encrypted_content":"x"},{"type":"reasoning","id":"r","summary":[],"content":null},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"}`,
	} {
		for _, stream := range []bool{false, true} {
			call := fmt.Sprintf(`{"stream":%t,"max_output_tokens":3,"model":"local/alone","input":[{"role":"user","content":"a"},%s,{"role":"user","content":"c"}]}`, stream, item)
			r := b.post("/v1/responses", call)
			if r.status != 200 || !strings.Contains(r.body, `"text":"1 2 3"`) {
				t.Errorf("%s, stream %t: %d %s", name, stream, r.status, r.body)
			}
			if r := b.post("/responses/input_tokens", call); r.status != 200 || !gjson.Get(r.body, "input_tokens").Exists() {
				t.Errorf("%s is not counted: %d %s", name, r.status, r.body)
			}
			cloud := strings.Replace(call, "local/alone", "vendor/model", 1)
			b.post("/v1/responses", cloud)
			if got := string(b.cloud.lastBody()); got != cloud {
				t.Errorf("%s: the cloud was sent %s", name, got)
			}
		}
	}
}
