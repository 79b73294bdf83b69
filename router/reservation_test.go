package router

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// TestUsageOfPaidStreams: a paid upstream is asked for the usage of a stream, and the
// event that has it is removed where the client did not ask.
func TestUsageOfPaidStreams(t *testing.T) {
	const usage = `data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"cost":0.5}}` + "\n\n"
	const figures = `"usage": {"prompt_tokens":5,"completion_tokens":2,"cost":0.5}}` + "\n\n"
	for name, tc := range map[string]struct {
		body  string
		usage string // the upstream's event
		want  string // of the events
	}{
		"unasked":              {`{"model":"gpt-4o","stream":true}`, usage, textEvent + finalEvent + doneEvent},
		"asked":                {`{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}`, usage, textEvent + finalEvent + usage + doneEvent},
		"with spaces":          {`{"model":"gpt-4o","stream":true}`, `data: {"choices": [], ` + figures, textEvent + finalEvent + doneEvent},
		"choices null":         {`{"model":"gpt-4o","stream":true}`, `data: {"choices":null,` + figures, textEvent + finalEvent + doneEvent},
		"no choices":           {`{"model":"gpt-4o","stream":true}`, `data: {` + figures, textEvent + finalEvent + doneEvent},
		"an empty delta":       {`{"model":"gpt-4o","stream":true}`, `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],` + figures, textEvent + finalEvent + doneEvent},
		"asked for as a field": {`{"model":"gpt-4o","stream":true,"usage":{"include":true}}`, usage, textEvent + finalEvent + usage + doneEvent},
	} {
		t.Run(name, func(t *testing.T) {
			edit, books := withBooks(t, daily("100"))
			b := newBench(t, nil, func(w http.ResponseWriter, r *http.Request) { stream(textEvent+finalEvent+tc.usage+doneEvent)(w, r) }, edit)
			r := b.post("/v1/chat/completions", tc.body)
			if r.status != 200 || r.readErr != nil || r.body != tc.want {
				t.Errorf("%d, %v, %q", r.status, r.readErr, r.body)
			}
			sent := gjson.ParseBytes(b.cloud.lastBody())
			if !sent.Get("stream_options.include_usage").Bool() && !sent.Get("usage.include").Bool() || sent.Get("model").Str != "openai/gpt-4o" {
				t.Errorf("the upstream got %s", sent.Raw)
			}
			if got := books.sums(t, ledger.ByRoute).Total; got.Cost != dollars("0.5") || got.Charged != got.Cost {
				t.Errorf("cost %s, charged %s", got.Cost, got.Charged)
			}
		})
	}
}

// TestUpstreamWithoutStreamOptions: one that rejects the field that llmsup adds is
// asked again without it, once, and is not taken to have billed twice.
func TestUpstreamWithoutStreamOptions(t *testing.T) {
	edit, books := withBooks(t, daily("100"))
	var b *bench
	b = newBench(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), "stream_options") {
			status(422, `{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}`)(w, r)
			return
		}
		stream(textEvent+finalEvent+doneEvent)(w, r)
	}, edit)
	r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"max_tokens":10}`)
	if r.status != 200 || r.body != textEvent+finalEvent+doneEvent || len(b.cloud.calls()) != 2 {
		t.Errorf("%d %q after %d calls", r.status, r.body, len(b.cloud.calls()))
	}
	if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"max_tokens":10}`); r.status != 200 || len(b.cloud.calls()) != 3 {
		t.Errorf("the second stream: %d after %d calls", r.status, len(b.cloud.calls()))
	}
	got := books.sums(t, ledger.ByRoute).Total
	if least := dollars("0.04"); got.UnknownCost != 2 || got.Charged < least || got.Charged >= 2*least {
		t.Errorf("charged %s", got.Charged)
	}
}

// TestErrorThatQuotesStreamOptions: a call that is wrong with the field and without it
// says nothing of the upstream: later streams are asked for their usage.
func TestErrorThatQuotesStreamOptions(t *testing.T) {
	edit, _ := withBooks(t, daily("100"))
	var b *bench
	b = newBench(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), `"role":"stream_options"`) {
			status(400, `{"error":{"message":"Invalid value: 'stream_options'"}}`)(w, r)
			return
		}
		stream(textEvent+finalEvent+doneEvent)(w, r)
	}, edit)
	if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"messages":[{"role":"stream_options"}]}`); r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"messages":[]}`)
	if sent := string(b.cloud.lastBody()); !strings.Contains(sent, `"include_usage":true`) {
		t.Errorf("the next stream is sent as %s", sent)
	}
}

// TestSettle: what is charged for an attempt.
func TestSettle(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	known := wire.Usage{Prompt: n(1000), Completion: n(100)} // 1.20 USD
	for name, tc := range map[string]struct {
		usage    wire.Usage
		text     string // that came, as one event
		complete bool
		model    string // "" = one of known price
		others   []string
		cost     string // "" = unknown
		charged  string
	}{
		"usage":                           {known, "x", true, "", nil, "1.2", "1.2"},
		"a cost":                          {wire.Usage{Cost: new(dollars("0.3"))}, "x", true, "", nil, "0.3", "0.3"},
		"a cost of a stream that broke":   {wire.Usage{Cost: new(dollars("0.3"))}, "x", false, "", nil, "0.3", "0.3"},
		"more text than the usage has":    {wire.Usage{Prompt: n(0), Completion: n(1)}, strings.Repeat("x", 16_000), true, "", nil, "2", "2"},
		"a stream that broke":             {wire.Usage{}, "x", false, "", nil, "", "10"},
		"one that broke with a usage":     {known, "x", false, "", nil, "", "10"},
		"one that broke after much text":  {wire.Usage{Prompt: n(0)}, strings.Repeat("x", 40_000), false, "", nil, "", "20"},
		"no usage":                        {wire.Usage{}, "x", true, "", nil, "", "10"},
		"no price":                        {wire.Usage{Prompt: n(0), Completion: n(1000)}, "x", true, "vendor/x", nil, "", "10"},
		"no price, and many tokens":       {wire.Usage{Prompt: n(0), Completion: n(1_000_000)}, "x", true, "vendor/x", nil, "", "75"},
		"one of several models":           {wire.Usage{Prompt: n(0), Completion: n(1_000_000)}, "x", true, "", []string{"vendor/x"}, "", "2000"},
		"more cached than in the prompt":  {wire.Usage{Prompt: n(10), Cached: n(20), Completion: n(1)}, "x", true, "", nil, "0.003", "0.003"},
		"fewer than no tokens":            {wire.Usage{Prompt: n(10), Completion: n(-1)}, "x", true, "", nil, "0.01", "0.01"},
		"more tokens than there can be":   {wire.Usage{Prompt: n(0), Completion: n(1 << 62)}, "x", true, "", nil, "", "10"},
		"fewer tokens than were reserved": {wire.Usage{Prompt: n(1), Completion: n(1)}, "x", true, "", nil, "0.003", "0.003"},
	} {
		t.Run(name, func(t *testing.T) {
			_, books := withBooks(t, daily("10000"))
			c := &call{books: books, path: "/v1/chat/completions", dialect: wire.Chat}
			for _, other := range tc.others {
				c.body.Choices = append(c.body.Choices, request.ModelChoice{Field: "models", Model: other})
			}
			if tc.model == "" {
				tc.model = "openai/gpt-4o"
			}
			s := step{backend: &upstreamBackend{Upstream: Upstream{Name: "openrouter", Key: "k"}}, model: tc.model, estimate: dollars("10")}
			r, over := c.reserve(s)
			if over != nil {
				t.Fatal(over)
			}
			r.observe([]byte(`{"choices":[{"delta":{"content":"` + tc.text + `"}}]}`))
			got := r.settle(tc.usage, tc.complete)
			if (got.cost == nil) != (tc.cost == "") || got.cost != nil && *got.cost != dollars(tc.cost) || got.charged != dollars(tc.charged) {
				t.Errorf("cost %v, charged %s; want %q, %s", got.cost, got.charged, tc.cost, tc.charged)
			}
			if s := books.Budget.Statuses(c.books.clock())[0]; s.Spent != got.charged || s.Reserved != 0 {
				t.Errorf("the budget has %+v", s)
			}
			got.pending.Cancel()
		})
	}
}

// TestObserveFinalEvent: the last event of /v1/responses repeats the whole answer, and
// may have text that no event before it has.
func TestObserveFinalEvent(t *testing.T) {
	r := &reservation{call: &call{path: "/v1/responses"}}
	for _, tc := range []struct {
		event        string
		text, tokens int64
	}{
		{`{"type":"response.created","response":{"output":[]}}`, 0, 0},
		{`{"type":"response.output_text.delta","delta":"12345"}`, 5, 1},
		{`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"12345"}]}]}}`, 5, 1},
		{`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"1234567890123456"}]}]}}`, 16, 4},
	} {
		if r.observe([]byte(tc.event)); r.text != tc.text || r.seen != tc.tokens {
			t.Errorf("after %s: %d bytes, %d tokens; want %d, %d", tc.event, r.text, r.seen, tc.text, tc.tokens)
		}
	}
}

// TestGeneratedBytes: the text of all dialects is seen, in streams and whole answers,
// once.
func TestGeneratedBytes(t *testing.T) {
	for text, path := range map[string]string{
		`{"choices":[{"delta":{"content":"12345"}}]}`:                                                           "/v1/chat/completions",
		`{"type":"content_block_start","content_block":{"type":"text","text":"12345"}}`:                         "/v1/messages",
		`{"choices":[{"delta":{"reasoning":"12345","reasoning_content":"12345"}}]}`:                             "/v1/chat/completions",
		`{"choices":[{"delta":{"tool_calls":[{"id":"abc","function":{"name":"f","arguments":"12345"}}]}}]}`:     "/v1/chat/completions",
		`{"choices":[{"message":{"content":"12"}},{"message":{"content":"345"}}]}`:                              "/v1/chat/completions",
		`{"choices":[{"text":"12345"}]}`:                                                                        "/v1/completions",
		`{"type":"content_block_delta","delta":{"type":"text_delta","text":"12345"}}`:                           "/v1/messages",
		`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"12345"}}`:             "/v1/messages",
		`{"type":"message","content":[{"type":"text","text":"12345"}]}`:                                         "/v1/messages",
		`{"type":"response.output_text.delta","delta":"12345"}`:                                                 "/v1/responses",
		`{"object":"response","output":[{"type":"message","content":[{"type":"output_text","text":"12345"}]}]}`: "/v1/responses",
		`{"object":"response","output":[{"type":"function_call","arguments":"12345"}]}`:                         "/v1/responses",
	} {
		if n := generatedBytes(path, gjson.Parse(text)); n != 5 {
			t.Errorf("%s %s: %d bytes, want 5", path, text, n)
		}
	}
	for text, path := range map[string]string{
		`{"choices":[{"delta":{"role":"assistant"},"finish_reason":"stop"}],"usage":{"completion_tokens":5}}`: "/v1/chat/completions",
		`{"type":"response.completed","response":{"output":[{"content":[{"text":"12345"}]}]}}`:                "/v1/responses",
		`{"data":[{"embedding":[1,2]}]}`: "/v1/embeddings",
	} {
		if n := generatedBytes(path, gjson.Parse(text)); n != 0 {
			t.Errorf("%s %s: %d bytes, want 0", path, text, n)
		}
	}
}

// TestModelChoices: a body can't have a model answer that its key may not use, and
// under a budget the most expensive one that it names is reserved.
func TestModelChoices(t *testing.T) {
	keyed := func(routes ...string) func(*Config, map[string]models.Route) {
		return func(c *Config, _ map[string]models.Route) {
			c.Access.Keys = []access.Key{{Name: "k", SHA256: sha256.Sum256([]byte("k")), Routes: routes}}
		}
	}
	limited := func(c *Config, _ map[string]models.Route) {
		c.Books.Budget = budget.New(budget.Config{Limits: daily("1000")}, nil)
	}
	for name, tc := range map[string]struct {
		edit   func(*Config, map[string]models.Route)
		model  string
		fields string
		param  string // of the error; "" = the call is answered
	}{
		"a model of the key's":                 {keyed("gpt-4o", "openai/*"), "gpt-4o", `"models":["openai/gpt-4o-mini"]`, ""},
		"another":                              {keyed("gpt-4o"), "gpt-4o", `"models":["openai/gpt-4o-mini"]`, "models"},
		"among others":                         {keyed("gpt-4o", "openai/*"), "gpt-4o", `"models":["openai/gpt-4o","anthropic/claude-3-opus"]`, "models"},
		"in another case":                      {keyed("gpt-4o"), "gpt-4o", `"MODELS":["openai/gpt-4o-mini"]`, "MODELS"},
		"in a letter that folds":               {keyed("gpt-4o"), "gpt-4o", `"model\u017f":["openai/gpt-4o-mini"]`, "modelſ"},
		"as text":                              {keyed("gpt-4o"), "gpt-4o", `"models":"x/y"`, "models"},
		"in objects":                           {keyed("gpt-4o"), "gpt-4o", `"models":[{"model":"x/y"}]`, "models"},
		"the second of two":                    {keyed("gpt-4o"), "gpt-4o", `"models":["gpt-4o"],"models":["x/y"]`, "models"},
		"not a list of names":                  {keyed("gpt-4o"), "gpt-4o", `"models":[["x/y"]]`, "models"},
		"too many":                             {keyed("gpt-4o", "openai/*"), "gpt-4o", `"models":["openai/a"` + strings.Repeat(`,"openai/a"`, request.MaxChoicesOfModels) + `]`, "models"},
		"a name that stands for another model": {keyed("gpt-4o"), "gpt-4o", `"models":["gpt-4o"]`, "models"},
		"what nested lists have, of who may do all": {func(*Config, map[string]models.Route) {}, "gpt-4o", `"models":` + strings.Repeat("[", 1000) + `"x"` + strings.Repeat("]", 1000), ""},
		"route":                         {keyed("gpt-4o"), "gpt-4o", `"route":"x/y"`, "route"},
		"the word of route":             {keyed("gpt-4o"), "gpt-4o", `"route":"fallback"`, ""},
		"of a local call that may move": {keyed("local/*"), "local/qwen", `"models":["x/y"]`, "models"},
		"a preset":                      {keyed("gpt-4o"), "gpt-4o", `"preset":"p"`, "preset"},
		"a preset under a budget":       {limited, "gpt-4o", `"preset":"p"`, "preset"},
		"a preset as the model":         {keyed("gpt-4o", "*/*"), "openai/gpt-4o@preset/p", `"x":1`, "model"},
		"a preset among the models":     {limited, "gpt-4o", `"models":["@preset/p"]`, "models"},
		"a preset of who may do all":    {func(*Config, map[string]models.Route) {}, "gpt-4o", `"preset":"p"`, ""},
		"models of who may do all":      {func(*Config, map[string]models.Route) {}, "gpt-4o", `"models":["x/y"]`, ""},
		"models under a budget":         {limited, "gpt-4o", `"models":["x/y"]`, ""},
		"Model beside model":            {limited, "gpt-4o", `"Model":"x/y"`, "-"},
		"MODEL, of who may do all":      {func(*Config, map[string]models.Route) {}, "local/qwen", `"MODEL":"x/y"`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, answers, answers, tc.edit)
			r := b.post("/v1/chat/completions", `{"model":"`+tc.model+`",`+tc.fields+`,"messages":[]}`, "Authorization", "Bearer k")
			e := gjson.Get(r.body, "error")
			switch {
			case tc.param == "" && r.status != 200, tc.param != "" && r.status != 400, tc.param == "-" && !strings.Contains(e.Get("message").Str, "in lower case"):
				t.Errorf("%d %s", r.status, r.body)
			case len(tc.param) > 1 && (e.Get("param").Str != tc.param || !strings.HasPrefix(e.Get("message").Str, tc.param+": ")):
				t.Errorf("%s", r.body)
			}
			if n := len(b.cloud.calls()) + len(b.local.calls()); tc.param != "" && n != 0 {
				t.Errorf("%d calls were made", n)
			}
		})
	}
	_, books := withBooks(t, daily("100"))
	expensive := price.Table{"a": {Completion: 1}, "b": {Completion: 1_000_000_000}}
	books.Prices = priceList{"openrouter": price.NewPriceList(expensive, nil, nil)}
	body, err := request.ParseBody([]byte(`{"model":"a","models":["b"],"max_tokens":1000}`))
	if err != nil {
		t.Fatal(err)
	}
	c := &call{path: "/v1/chat/completions", body: body, dialect: wire.Chat, books: books}
	if many, err := request.ParseBody([]byte(`{"model":"x","models":[` + strings.Repeat(`"a",`, 1<<16) + `"a"]}`)); err != nil || len(many.Choices) > request.MaxChoicesOfModels+1 {
		t.Errorf("%d models are kept, %v", len(many.Choices), err)
	}
	if got := c.estimate(step{backend: &upstreamBackend{Upstream: Upstream{Name: "openrouter", Key: "k"}}, model: "a"}); got != usd.Amount(1_000_000) {
		t.Errorf("%d picodollars are reserved", got)
	}
}

// TestResumeAtStrictUpstream: a fallback that rejects the field that llmsup adds goes
// on with a stream all the same.
func TestResumeAtStrictUpstream(t *testing.T) {
	var b *bench
	b = newBench(t, sends(breaks, opening+said(" 1, of a list that is long enough,")+said(" 2")), func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), "stream_options") {
			status(422, `{"detail":[{"loc":["body","stream_options"]}]}`)(w, r)
			return
		}
		sends(ends, roleEvent, `data: {"id":"gen-9","choices":[{"index":0,"delta":{"content":" 4"}}]}`+"\n\n", finished("stop"), doneEvent)(w, r)
	}, resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
	if r.readErr != nil || !strings.Contains(r.body, " 4") || !strings.HasSuffix(r.body, doneEvent) {
		t.Errorf("%v %s", r.readErr, r.body)
	}
}

// TestPaddedAnswerIsSeen: OpenRouter writes white space before a whole answer.
func TestPaddedAnswerIsSeen(t *testing.T) {
	r := &reservation{call: &call{path: "/v1/chat/completions"}}
	r.observe([]byte("\n  " + `{"choices":[{"message":{"content":"12345678"}}]}`))
	if r.text != 8 || r.seen != 1 {
		t.Errorf("%d bytes, %d tokens", r.text, r.seen)
	}
}

// TestLate503IsCharged: what comes late without Retry-After may have been generated.
func TestLate503IsCharged(t *testing.T) {
	for status, want := range map[int]bool{503: true, 500: false, 504: true} {
		_, books := withBooks(t, daily("100"))
		c := &call{books: books, path: "/v1/chat/completions", dialect: wire.Chat}
		r, _ := c.reserve(step{backend: &upstreamBackend{Upstream: Upstream{Name: "openrouter", Key: "k"}}, model: "openai/gpt-4o", estimate: dollars("2")})
		f := &failure{begun: true, resp: &http.Response{StatusCode: status}}
		f.settle(r)
		if spent := books.Budget.Statuses(c.books.clock())[0].Spent; (spent > 0) != want {
			t.Errorf("%d: %s is charged", status, spent)
		}
		if f.charge != nil {
			f.charge.pending.Cancel()
		}
	}
}
