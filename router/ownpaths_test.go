package router

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

// ownPaths are bodies of requests to all paths that llama-server and llmsup both take calls
// at, by path. "" = a GET.
var ownPaths = map[string][]string{
	"/v1/chat/completions":              {chatBody, streamed(chatBody), `{"messages":7}`, `{"messages":[],"grammar":"x"}`},
	"/chat/completions":                 {chatBody, streamed(chatBody)},
	"/v1/completions":                   {textBody, streamed(textBody)},
	"/completions":                      {textBody, streamed(textBody)},
	"/completion":                       {textBody, streamed(textBody), `{"prompt":[" 1"," 5"],"n_predict":40}`, `{"prompt":[" 1"," 5"],"n_predict":40,"stream":true}`, `{"prompt":" 1","n":2,"n_predict":40,"stream":true}`, `{"prompt":" 1","n_predict":2,"n_probs":2,"return_tokens":true}`, `{"prompt":{}}`, `{}`},
	"/v1/responses":                     {inputBody, streamed(inputBody)},
	"/responses":                        {inputBody, streamed(inputBody)},
	"/v1/messages":                      {chatBody, streamed(chatBody)},
	"/v1/messages/count_tokens":         {chatBody},
	"/v1/chat/completions/input_tokens": {chatBody},
	"/chat/completions/input_tokens":    {chatBody},
	"/v1/responses/input_tokens":        {inputBody},
	"/responses/input_tokens":           {inputBody},
	"/v1/embeddings":                    {inputBody, `{}`},
	"/embeddings":                       {inputBody, `{"input":["hi","ho"]}`, `{}`},
	"/embedding":                        {`{"content":"hi"}`, inputBody},
	"/v1/rerank":                        {rankBody},
	"/rerank":                           {rankBody},
	"/reranking":                        {rankBody},
	"/v1/reranking":                     {rankBody},
	"/v1/audio/transcriptions":          {`{}`},
	"/audio/transcriptions":             {`{}`},
	"/infill":                           {`{"input_prefix":"a","input_suffix":"b"}`},
	"/tokenize":                         {`{"content":" 1 2"}`, `{"content":7}`},
	"/detokenize":                       {`{"tokens":[262,263]}`},
	"/apply-template":                   {chatBody},
	"/props":                            {"", `{}`},
	"/slots":                            {""},
	"/slots?fail_on_no_slot=1":          {""},
	"/slots/0?action=save":              {`{"filename":"a"}`, `{"filename":"../a"}`, `{}`},
	"/slots/0?action=restore":           {`{"filename":"a"}`, `{"filename":"missing"}`},
	"/slots/0?action=erase":             {`{}`},
	"/slots/0?action=x":                 {`{}`},
	"/slots/x?action=erase":             {`{}`},
	"/slots/99?action=erase":            {`{}`},
	"/lora-adapters":                    {"", `[]`, `{}`, `nonsense`},
}

const (
	chatBody  = `{"messages":[{"role":"user","content":"hi"}],"max_tokens":5}`
	textBody  = `{"prompt":" 1 2","n_predict":5,"max_tokens":5}`
	inputBody = `{"input":"hi","max_output_tokens":5}`
	rankBody  = `{"query":"hi","documents":["a","b"]}`
)

func streamed(body string) string { return body[:len(body)-1] + `,"stream":true}` }

// TestOwnPaths: every path of llama-server answers through llmsup as llama-server does:
// status, content type and body, but for ids, times and what depends on earlier calls. A
// slash at the path's end makes no difference.
func TestOwnPaths(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		only string // the paths that contain this: a chat ends a llama-server that was started for embeddings
	}{
		"chat":       {args: []string{"--props", "--slot-save-path", t.TempDir()}},
		"embeddings": {args: []string{"--embeddings"}, only: "embed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEngine(t, append(tc.args, "--no-cache-prompt")...)
			b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) {
				c.Locals["qwen"] = &fakeLocal{state: backend.LocalState{Alive: true, Network: "unix", Address: e.socket, Slots: 4, SupportsAggregation: true}}
			})
			for path, bodies := range ownPaths {
				if !strings.Contains(path, tc.only) {
					continue
				}
				for _, body := range bodies {
					want := e.answer(t, e.client, "http://llama-server"+path, body)
					at, query, found := strings.Cut(path, "?")
					for _, slash := range []string{"", "/"} {
						url := b.url + at + slash
						if found {
							url += "?model=local/alone&" + query
						}
						got := e.answer(t, http.DefaultClient, url, body)
						if strings.Contains(path, "responses") && got.status == http.StatusOK && includes(got.events, want.events) {
							got.events = want.events // llmsup adds what OpenAI's schema requires
						}
						if !reflect.DeepEqual(got, want) {
							t.Errorf("%s%s %s:\ngot  %+v\nwant %+v", path, slash, body, got, want)
						}
					}
				}
			}
		})
	}
}

// plainAnswer is an answer without what differs between two equal calls.
type plainAnswer struct {
	status      int
	contentType string
	events      []any // of a stream; of any other answer its body
}

// answer makes a request: a GET without a body, else a POST.
func (e engine) answer(t *testing.T, client *http.Client, url, body string) plainAnswer {
	t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	got := plainAnswer{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type")}
	texts := []string{string(all)}
	if got.contentType == "text/event-stream" {
		texts = slices.DeleteFunc(strings.Split(string(all), "\n"), func(line string) bool { return !strings.HasPrefix(line, "data: ") })
		for i := range texts {
			texts[i] = strings.TrimPrefix(texts[i], "data: ")
		}
		// llama-server interleaves the choices of a call as it likes.
		slices.SortStableFunc(texts, func(a, b string) int {
			return cmp.Compare(gjson.Get(a, "index").Int(), gjson.Get(b, "index").Int())
		})
	}
	for _, text := range texts {
		if !gjson.Valid(text) { // [DONE]
			got.events = append(got.events, text)
			continue
		}
		event := comparable(t, text)
		removeVolatile(event)
		got.events = append(got.events, event)
	}
	return got
}

// removeVolatile removes from an answer what depends on earlier calls, or is random.
func removeVolatile(v any) {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			removeVolatile(element)
		}
	case map[string]any:
		for _, name := range []string{"id_slot", "id_task", "n_erased", "media_marker", "item_id"} {
			delete(v, name)
		}
		for _, value := range v {
			removeVolatile(value)
		}
	}
}

// includes reports whether a JSON value has all that another one has, and possibly more
// fields.
func includes(all, part any) bool {
	switch part := part.(type) {
	case []any:
		list, ok := all.([]any)
		if !ok || len(list) != len(part) {
			return false
		}
		for i := range part {
			if !includes(list[i], part[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		object, ok := all.(map[string]any)
		for name, value := range part {
			if _, has := object[name]; !ok || !has || !includes(object[name], value) {
				return false
			}
		}
		return ok
	}
	return reflect.DeepEqual(all, part)
}

// TestOwnStreamOfSeveralPrompts: the end of the first prompt's answer is not the end of the
// stream, and a stream that breaks before the last one does not end like a complete one.
func TestOwnStreamOfSeveralPrompts(t *testing.T) {
	const first, second = `data: {"index":1,"content":" 6","stop":true,"tokens_predicted":1,"tokens_evaluated":1}` + "\n\n", `data: {"index":0,"content":" 2","stop":true,"tokens_predicted":2,"tokens_evaluated":1}` + "\n\n"
	later := make(chan struct{})
	slow := func(w http.ResponseWriter, _ *http.Request) {
		<-later
		_, _ = io.WriteString(w, second)
	}
	b := newFixture(t, sends(slow, first), answers)
	time.AfterFunc(1500*time.Millisecond, func() { close(later) }) // more than a complete stream may take to close
	if r := b.post("/completion", `{"prompt":[" 1"," 5"],"stream":true}`); r.body != first+second || r.readErr != nil {
		t.Errorf("%s, %v", r.body, r.readErr)
	}
	if log := b.log.String(); !strings.Contains(log, `"completion_tokens":3`) || !strings.Contains(log, `"path":"/completion"`) {
		t.Error(log)
	}
	b = newFixture(t, sends(ends, first), answers)
	if r := b.post("/completion", `{"prompt":[" 1"," 5"],"stream":true}`); r.readErr == nil || !strings.Contains(r.body, `"error"`) {
		t.Errorf("a truncated stream: %s, %v", r.body, r.readErr)
	}
}

// TestNoModel: a call that names no model takes the route local, and a backend that needs a
// name receives one.
func TestNoModel(t *testing.T) {
	b := newFixture(t, answers, answers, func(_ *plan.Config, routes map[string]models.Route) {
		routes["local"] = routes["local/qwen"]
	})
	b.local.handler, b.cloud.handler = b.local.answersInKind(), b.cloud.answersInKind()
	for body, want := range map[string]string{
		`{"messages":[]}`:                 `{"model":"qwen/qwen-2.5-14b-instruct","messages":[]}`,
		` { }`:                            ` {"model":"qwen/qwen-2.5-14b-instruct" }`,
		`{"messages":[],"stream":true}`:   `{"stream_options":{"include_usage":true},"model":"qwen/qwen-2.5-14b-instruct","messages":[],"stream":true}`,
		`{"model":"local","messages":[]}`: `{"model":"qwen/qwen-2.5-14b-instruct","messages":[]}`,
		`{"model":null,"messages":[]}`:    `{"model":"qwen/qwen-2.5-14b-instruct","messages":[]}`,
		`{"messages":[],"model":""}`:      `{"messages":[],"model":"qwen/qwen-2.5-14b-instruct"}`,
	} {
		b.state.edit(ready)
		if r := b.post("/chat/completions/", body); r.status != 200 || r.backend() != "qwen" {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
		if got := b.local.requests(); got[len(got)-1].path != "/v1/chat/completions" {
			t.Errorf("%s: sent to %s", body, got[len(got)-1].path)
		}
		b.state.edit(loading)
		if r := b.post("/chat/completions", body); r.status != 200 || r.backend() != "openrouter" {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
		if got := string(b.cloud.lastBody()); got != want {
			t.Errorf("%s became\n%s, want\n%s", body, got, want)
		}
	}
	b = newFixture(t, answers, answers, func(_ *plan.Config, routes map[string]models.Route) { delete(routes, "local") })
	for _, path := range []string{"/v1/chat/completions", "/tokenize", "/props"} {
		if r := b.post(path, `{}`); r.status != 400 || !strings.Contains(r.body, "GET /v1/models lists the names") {
			t.Errorf("%s without a local server: %d %s", path, r.status, r.body)
		}
	}
}

// TestOwnPathsWithKeys: what shows or changes the whole server needs an operator's key, and
// every path needs a key that may use the model.
func TestOwnPathsWithKeys(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys, func(c *plan.Config, _ map[string]models.Route) {
		c.Access.Keys = append(c.Access.Keys, access.Key{Name: "prometheus", SHA256: sha256.Sum256([]byte("metrics-key")), Routes: []string{}, Operator: true})
	})
	const query = "?model=local/qwen"
	for request, want := range map[string]map[string]int{
		"POST /tokenize" + query:              {fullKey: 200, localOnlyKey: 200, freeOnlyKey: 200, "metrics-key": 403, "": 401},
		"POST /completion" + query:            {fullKey: 200, localOnlyKey: 200, freeOnlyKey: 200, "metrics-key": 403, "": 401},
		"POST /tokenize":                      {fullKey: 200, localOnlyKey: 403},
		"POST /v1/tokenize":                   {fullKey: 404, "": 401},
		"GET /props" + query:                  {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "metrics-key": 403, "": 401},
		"POST /props" + query:                 {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "": 401},
		"GET /slots" + query:                  {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "": 401},
		"GET /slots/" + query:                 {fullKey: 200, localOnlyKey: 403},
		"POST /slots/0" + query + "&action=x": {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "": 401},
		"GET /lora-adapters" + query:          {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "": 401},
		"POST /lora-adapters" + query:         {fullKey: 200, localOnlyKey: 403, freeOnlyKey: 403, "": 401},
		"GET /v1/health":                      {"": 200},
		"GET /health/":                        {"": 200},
		"GET /models/":                        {fullKey: 200, "": 401},
		"GET /tokenize":                       {fullKey: 405, "": 401},
		"PUT /props":                          {fullKey: 405},
		"GET /slots/0":                        {fullKey: 405},
	} {
		method, path, _ := strings.Cut(request, " ")
		for key, status := range want {
			var headers []string
			if key != "" {
				headers = []string{"Authorization", "Bearer " + key}
			}
			before := len(b.local.requests())
			if r := b.send(method, path, `{"content":"x"}`, headers...); r.status != status {
				t.Errorf("%s with the key %q: %d %s, want %d", request, key, r.status, r.body, status)
			}
			if asked := len(b.local.requests()) - before; status != 200 && asked != 0 {
				t.Errorf("%s with the key %q reached the server", request, key)
			}
		}
	}
	b.waitIdle()
	for _, r := range b.local.requests() {
		if r.query != "" && r.query != "action=x" {
			t.Errorf("%s got the query %s", r.path, r.query)
		}
	}
}

// TestUnknownPaths: the answer says what to do.
func TestUnknownPaths(t *testing.T) {
	b := newFixture(t, answers, answers)
	for path, want := range map[string]string{
		"/audio/translations":    "use /v1/audio/translations: the base URL must end in /v1",
		"/v1/v1/messages":        "use /v1/messages",
		"/api/chat":              "POST /v1/chat/completions",
		"/":                      "POST /v1/chat/completions",
		"/v1/chat/completions/x": "no endpoint at POST /v1/chat/completions/x",
	} {
		if r := b.post(path, `{}`); r.status != 404 || errorCode(r) != "not_found" || !strings.Contains(r.body, want) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := b.post("//v1//chat/completions", `{"model":"local"}`); r.status != 200 {
		t.Errorf("double slashes: %d %s", r.status, r.body)
	}
	if n := len(b.local.requests()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

// TestServerRequestsAreNoCalls: monitoring asks a server every few seconds. That changes no
// figure about calls, and does not fill the log.
func TestServerRequestsAreNoCalls(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, answers, edit)
	const query = "?model=local/qwen"
	b.local.handler = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, `{}`)
	}
	for request, level := range map[string]string{
		"GET /slots" + query:                        "debug",
		"GET /slots" + query + "&fail_on_no_slot=1": "debug",
		"GET /props" + query:                        "debug",
		"GET /props?model=gpt-4o":                   "warn",
		"POST /props" + query:                       "info",
	} {
		method, path, _ := strings.Cut(request, " ")
		r := b.send(method, path, "")
		id := r.header.Get("X-Request-Id")
		var line string
		eventually(t, "the request is logged", func() bool {
			for text := range strings.Lines(b.log.String()) {
				if strings.Contains(text, id) {
					line = text
				}
			}
			return line != ""
		})
		if got := gjson.Get(line, "level").Str; got != level {
			t.Errorf("%s: %s", request, line)
		}
	}
	if got := metricLines(b.router.registry, "llmsup_calls_total", "llmsup_first_answer_seconds_count", "llmsup_call_duration_seconds_count"); got != "" {
		t.Error(got)
	}
	b.local.handler = answers
	b.chat("local/qwen", false)
	if got := usageBy(t, acct, ledger.ByRoute).Total; got.Calls != 1 {
		t.Errorf("in the ledger: %s", summary(got))
	}
}

// TestOwnPathsWhileBusy: a request about the server does not wait for a slot.
func TestOwnPathsWhileBusy(t *testing.T) {
	b := newFixture(t, hangs, answers)
	b.local.handler = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slots") {
			status(200, `[]`)(w, r)
			return
		}
		hangs(w, r)
	}
	b.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
	busy, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(busy, http.MethodPost, b.url+"/completion", strings.NewReader(`{}`))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "the slot is taken", func() bool { return len(b.local.requests()) == 1 })
	for _, request := range []string{"GET /slots", "POST /slots/0?action=erase"} {
		method, path, _ := strings.Cut(request, " ")
		if r := b.send(method, path, ""); r.status != 200 {
			t.Errorf("%s: %d %s", request, r.status, r.body)
		}
	}
	cancel()
	<-done
	b.waitIdle()
}

// TestServerRequestsDoNotLoad: a request about a server whose model is not loaded gets 503 at
// once. The server is not told to load it, nor does any request keep it loaded.
func TestServerRequestsDoNotLoad(t *testing.T) {
	for name, tc := range map[string]struct {
		state func(*backend.LocalState)
		model string
	}{
		"loading":                {loading, "local/alone"},
		"unloaded":               {unloaded, "local/alone"},
		"unloaded, with a cloud": {unloaded, "local/qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, answers, answers)
			if r := b.send("GET", "/slots?model="+tc.model, ""); r.status != 200 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			b.state.edit(tc.state)
			began := time.Now()
			r := b.send("GET", "/slots?model="+tc.model, "")
			if r.status != 503 || r.header.Get("X-Should-Retry") != "true" || r.header.Get("Retry-After") == "" || time.Since(began) > atOnce {
				t.Errorf("%d %v after %s: %s", r.status, r.header, time.Since(began), r.body)
			}
			if got := b.state.received(); len(got) != 0 {
				t.Errorf("the server was told %v", got)
			}
			if load := b.router.Load("qwen"); load.Total != 0 || load.Calls != 0 {
				t.Errorf("%+v", load)
			}
		})
	}
}

// TestOwnPathsOfUpstreamModels: clients whose base URL lacks /v1 ask for OpenAI's
// completions and embeddings there, if the model is an upstream's.
func TestOwnPathsOfUpstreamModels(t *testing.T) {
	for path, want := range map[string]struct{ public, answer string }{
		"/completions": {"/api/v1/completions", `{"choices":[{"index":0,"text":" 4","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`},
		"/completion/": {"/api/v1/completions", `{"choices":[{"index":0,"text":" 4","finish_reason":"stop"}]}`},
		"/embeddings":  {"/api/v1/embeddings", `{"object":"list","data":[{"embedding":[1]}]}`},
		"/embedding":   {"/api/v1/embeddings", `{"object":"list","data":[{"embedding":[1]}]}`},
	} {
		t.Run(path, func(t *testing.T) {
			b := newFixture(t, status(500, ""), status(200, want.answer))
			r := b.post(path, `{"model":"gpt-4o","prompt":" 1 2 3","input":"x"}`)
			if r.status != 200 || r.body != want.answer || r.backend() != "openrouter" {
				t.Errorf("%d from %s: %s", r.status, r.backend(), r.body)
			}
			if got := b.cloud.requests(); len(got) != 1 || got[0].path != want.public {
				t.Errorf("the upstream received %+v", got)
			}
			for _, body := range []string{`{"prompt":"x"}`, `{"model":null,"prompt":"x"}`} {
				if r := b.post(path+"?model=openai/gpt-4o", body); r.status != 200 || string(b.cloud.lastBody()) != `{"model":"openai/gpt-4o","prompt":"x"}` {
					t.Errorf("%d %s; the upstream received %s", r.status, r.body, b.cloud.lastBody())
				}
			}
			if r := b.post(path, `{"model":"local/qwen","prompt":" 1 2 3","input":"x"}`); r.backend() == "openrouter" {
				t.Errorf("a local model's call in llama-server's own form went to %s", r.backend())
			}
		})
	}
}
