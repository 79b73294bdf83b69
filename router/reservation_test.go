package router

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
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
			edit, acct := withLedger(t, accountingtest.Daily("100"))
			b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
				sendsStream(textEvent+finalEvent+tc.usage+doneEvent)(w, r)
			}, edit)
			r := b.post("/v1/chat/completions", tc.body)
			if r.status != 200 || r.readErr != nil || r.body != tc.want {
				t.Errorf("%d, %v, %q", r.status, r.readErr, r.body)
			}
			sent := gjson.ParseBytes(b.cloud.lastBody())
			if !sent.Get("stream_options.include_usage").Bool() && !sent.Get("usage.include").Bool() || sent.Get("model").Str != "openai/gpt-4o" {
				t.Errorf("the upstream got %s", sent.Raw)
			}
			if got := usageBy(t, acct, ledger.ByRoute).Total; got.Cost != accountingtest.USD("0.5") || got.Charged != got.Cost {
				t.Errorf("cost %s, charged %s", got.Cost, got.Charged)
			}
		})
	}
}

// TestUpstreamWithoutStreamOptions: an upstream that rejects the field that llmsup adds is
// asked once more without it, and does not count as having billed twice.
func TestUpstreamWithoutStreamOptions(t *testing.T) {
	edit, acct := withLedger(t, accountingtest.Daily("100"))
	var b *fixture
	b = newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), "stream_options") {
			status(422, `{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}`)(w, r)
			return
		}
		sendsStream(textEvent+finalEvent+doneEvent)(w, r)
	}, edit)
	r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"max_tokens":10}`)
	if r.status != 200 || r.body != textEvent+finalEvent+doneEvent || len(b.cloud.requests()) != 2 {
		t.Errorf("%d %q after %d calls", r.status, r.body, len(b.cloud.requests()))
	}
	if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"max_tokens":10}`); r.status != 200 || len(b.cloud.requests()) != 3 {
		t.Errorf("the second stream: %d after %d calls", r.status, len(b.cloud.requests()))
	}
	got := usageBy(t, acct, ledger.ByRoute).Total
	if least := accountingtest.USD("0.04"); got.UnknownCost != 2 || got.Charged < least || got.Charged >= 2*least {
		t.Errorf("charged %s", got.Charged)
	}
}

// TestErrorThatQuotesStreamOptions: a call that is rejected with the field and without it
// says nothing about the upstream: later streams are asked for their usage.
func TestErrorThatQuotesStreamOptions(t *testing.T) {
	edit, _ := withLedger(t, accountingtest.Daily("100"))
	var b *fixture
	b = newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), `"role":"stream_options"`) {
			status(400, `{"error":{"message":"Invalid value: 'stream_options'"}}`)(w, r)
			return
		}
		sendsStream(textEvent+finalEvent+doneEvent)(w, r)
	}, edit)
	if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"messages":[{"role":"stream_options"}]}`); r.status != 400 {
		t.Errorf("%d %s", r.status, r.body)
	}
	b.post("/v1/chat/completions", `{"model":"gpt-4o","stream":true,"messages":[]}`)
	if sent := string(b.cloud.lastBody()); !strings.Contains(sent, `"include_usage":true`) {
		t.Errorf("the next stream is sent as %s", sent)
	}
}

// TestModelChoices: a body cannot choose a model that its key may not use, and under a
// budget the most expensive model that it names is reserved.
func TestModelChoices(t *testing.T) {
	keyed := func(routes ...string) func(*plan.Config, map[string]models.Route) {
		return func(c *plan.Config, _ map[string]models.Route) {
			c.Access.Keys = []access.Key{{Name: "k", SHA256: sha256.Sum256([]byte("k")), Routes: routes}}
		}
	}
	limited := func(c *plan.Config, _ map[string]models.Route) {
		c.Accounting.Budget = budget.New(budget.Config{Limits: accountingtest.Daily("1000")}, nil)
	}
	for name, tc := range map[string]struct {
		edit   func(*plan.Config, map[string]models.Route)
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
		"nested lists, of an unrestricted key": {func(*plan.Config, map[string]models.Route) {}, "gpt-4o", `"models":` + strings.Repeat("[", 1000) + `"x"` + strings.Repeat("]", 1000), ""},
		"route":                                {keyed("gpt-4o"), "gpt-4o", `"route":"x/y"`, "route"},
		"the word of route":                    {keyed("gpt-4o"), "gpt-4o", `"route":"fallback"`, ""},
		"of a local call that may move":        {keyed("local/*"), "local/qwen", `"models":["x/y"]`, "models"},
		"a preset":                             {keyed("gpt-4o"), "gpt-4o", `"preset":"p"`, "preset"},
		"a preset under a budget":              {limited, "gpt-4o", `"preset":"p"`, "preset"},
		"a preset as the model":                {keyed("gpt-4o", "*/*"), "openai/gpt-4o@preset/p", `"x":1`, "model"},
		"a preset among the models":            {limited, "gpt-4o", `"models":["@preset/p"]`, "models"},
		"a preset of an unrestricted key":      {func(*plan.Config, map[string]models.Route) {}, "gpt-4o", `"preset":"p"`, ""},
		"models of an unrestricted key":        {func(*plan.Config, map[string]models.Route) {}, "gpt-4o", `"models":["x/y"]`, ""},
		"models under a budget":                {limited, "gpt-4o", `"models":["x/y"]`, ""},
		"Model beside model":                   {limited, "gpt-4o", `"Model":"x/y"`, "-"},
		"MODEL, of an unrestricted key":        {func(*plan.Config, map[string]models.Route) {}, "local/qwen", `"MODEL":"x/y"`, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, answers, answers, tc.edit)
			r := b.post("/v1/chat/completions", `{"model":"`+tc.model+`",`+tc.fields+`,"messages":[]}`, "Authorization", "Bearer k")
			e := gjson.Get(r.body, "error")
			switch {
			case tc.param == "" && r.status != 200, tc.param != "" && r.status != 400, tc.param == "-" && !strings.Contains(e.Get("message").Str, "in lower case"):
				t.Errorf("%d %s", r.status, r.body)
			case len(tc.param) > 1 && (e.Get("param").Str != tc.param || !strings.HasPrefix(e.Get("message").Str, tc.param+": ")):
				t.Errorf("%s", r.body)
			}
			if n := len(b.cloud.requests()) + len(b.local.requests()); tc.param != "" && n != 0 {
				t.Errorf("%d calls were made", n)
			}
		})
	}
}

// TestResumeAtStrictUpstream: a fallback that rejects the field that llmsup adds continues
// a stream all the same.
func TestResumeAtStrictUpstream(t *testing.T) {
	var b *fixture
	b = newFixture(t, sends(breaks, firstChunk+textChunk(" 1, of a list that is long enough,")+textChunk(" 2")), func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(string(b.cloud.lastBody()), "stream_options") {
			status(422, `{"detail":[{"loc":["body","stream_options"]}]}`)(w, r)
			return
		}
		sends(ends, roleEvent, `data: {"id":"gen-9","choices":[{"index":0,"delta":{"content":" 4"}}]}`+"\n\n", finishChunk("stop"), doneEvent)(w, r)
	}, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
	if r.readErr != nil || !strings.Contains(r.body, " 4") || !strings.HasSuffix(r.body, doneEvent) {
		t.Errorf("%v %s", r.readErr, r.body)
	}
}
