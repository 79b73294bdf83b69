package accounting_test

import (
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

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
		"a cost":                          {wire.Usage{Cost: new(accountingtest.USD("0.3"))}, "x", true, "", nil, "0.3", "0.3"},
		"a cost of a stream that broke":   {wire.Usage{Cost: new(accountingtest.USD("0.3"))}, "x", false, "", nil, "0.3", "0.3"},
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
			acct := accountingtest.New(t, accountingtest.Daily("10000"))
			c := &request.Request{Path: "/v1/chat/completions", Dialect: wire.Chat, Began: time.Now()}
			for _, other := range tc.others {
				c.Body.Choices = append(c.Body.Choices, request.ModelChoice{Field: "models", Model: other})
			}
			if tc.model == "" {
				tc.model = "openai/gpt-4o"
			}
			at := accounting.Attempt{Backend: "openrouter", Metered: true, Model: tc.model, Estimate: accountingtest.USD("10")}
			r, over := acct.Reserve(c, at)
			if over != nil {
				t.Fatal(over)
			}
			r.Observe([]byte(`{"choices":[{"delta":{"content":"` + tc.text + `"}}]}`))
			got := r.Settle(tc.usage, tc.complete)
			if (got.Cost == nil) != (tc.cost == "") || got.Cost != nil && *got.Cost != accountingtest.USD(tc.cost) || got.Charged != accountingtest.USD(tc.charged) {
				t.Errorf("cost %v, charged %s; want %q, %s", got.Cost, got.Charged, tc.cost, tc.charged)
			}
			if s := acct.Budget.Statuses(c.Began)[0]; s.Spent != got.Charged || s.Reserved != 0 {
				t.Errorf("the budget has %+v", s)
			}
			got.Pending.Cancel()
		})
	}
}

// TestEstimates: what is set aside is more than nearly every call takes.
func TestEstimates(t *testing.T) {
	acct := accountingtest.New(t, accountingtest.Daily("100"))
	image := strings.Repeat("iVBORw0KGgo", 100_000)
	for name, tc := range map[string]struct {
		path, model, body string
		least, most       string
	}{
		"short":                   {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":10}`, "0.02", "0.04"},
		"no limit":                {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[]}`, "8.192", "8.3"},
		"several":                 {"/v1/chat/completions", "openai/gpt-4o", `{"n":5,"max_completion_tokens":10,"messages":[]}`, "0.1", "0.13"},
		"responses":               {"/v1/responses", "openai/gpt-4o", `{"max_output_tokens":100}`, "0.2", "0.22"},
		"an embedding":            {"/v1/embeddings", "openai/gpt-4o", `{"input":"` + strings.Repeat("word ", 600) + `"}`, "1", "1.1"},
		"a small image":           {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["data:image/png;base64,` + image[:20_000] + `"]}`, "3", "3.1"},
		"an image":                {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["data:image/png;base64,` + image + `"]}`, "68.7", "68.8"},
		"an image of PHP's":       {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["data:image/png;base64,` + strings.Repeat(`iVBOR\/`, 10_000) + `"]}`, "4.3", "4.4"},
		"Anthropic's image":       {"/v1/messages", "openai/gpt-4o", `{"max_tokens":1,"messages":[{"type":"base64","data": "` + image + `"}]}`, "68.7", "68.8"},
		"text with a mark":        {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["look: data:image/png;base64,` + image + `"]}`, "366", "367"},
		"a data URL of text":      {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["data:text/plain,` + image + `;base64,"]}`, "366", "367"},
		"a long word":             {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["` + strings.Repeat("f", 30_000) + `"]}`, "10", "10.1"},
		"unknown price":           {"/v1/chat/completions", "vendor/x", `{"max_tokens":1000,"messages":[]}`, "0.075", "0.08"},
		"an absurd limit":         {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":2000000000,"n":2000000000}`, "10000", "10000"},
		"a limit as a float":      {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":1e5}`, "200", "200.1"},
		"one with a fraction":     {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":99999.5,"n":1.0}`, "200", "200.1"},
		"one in quotes":           {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":"100000"}`, "200", "200.1"},
		"a small one in them":     {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":"1"}`, "8.192", "8.3"},
		"of llama-server's":       {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"n_predict":1}`, "8.192", "8.3"},
		"of responses":            {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_output_tokens":1}`, "8.192", "8.3"},
		"of chat":                 {"/v1/messages", "openai/gpt-4o", `{"messages":[],"max_completion_tokens":1}`, "8.192", "8.3"},
		"in capitals":             {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"MAX_TOKENS":1}`, "8.192", "8.3"},
		"and then null":           {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":1,"max_tokens":null}`, "8.192", "8.3"},
		"two, in capitals":        {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":1,"Max_Tokens":100000}`, "200", "200.1"},
		"in quotes, with a space": {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":" 100000"}`, "200", "200.1"},
		"in quotes, escaped":      {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":"\u0031\u0030\u0030\u0030\u0030\u0030"}`, "200", "200.1"},
		"several in capitals":     {"/v1/chat/completions", "openai/gpt-4o", `{"N":5,"max_tokens":10,"messages":[]}`, "0.1", "0.13"},
		"text as base64":          {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"messages":["data:;base64,` + strings.Repeat("a b ", 25_000) + `"]}`, "33", "34"},
		"text as data":            {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":1,"tools":[{"data":"` + strings.Repeat("a b ", 25_000) + `"}]}`, "33", "34"},
		"an unknown choice":       {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":100000,"models":["x/y"]}`, "200", "200.1"},
		"one above 32 bits":       {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":3000000000}`, "10000", "10000"},
		"one beyond all":          {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"max_tokens":1e400}`, "10000", "10000"},
		"an escaped name":         {"/v1/chat/completions", "openai/gpt-4o", `{"messages":[],"m\u0061x_tokens":100000}`, "200", "200.1"},
		"a list of prompts":       {"/v1/completions", "openai/gpt-4o", `{"prompt":["a","b","c"],"max_tokens":10}`, "0.06", "0.09"},
		"lists of tokens":         {"/v1/completions", "openai/gpt-4o", `{"prompt":[[1,2],[3]],"max_tokens":10}`, "0.04", "0.07"},
		"a list of tokens":        {"/v1/completions", "openai/gpt-4o", `{"prompt":[1,2,3],"max_tokens":10}`, "0.02", "0.04"},
		"counting":                {"/v1/messages/count_tokens", "openai/gpt-4o", `{"messages":[]}`, "0", "0"},
		"counting for responses":  {"/v1/responses/input_tokens", "openai/gpt-4o", `{"input":"x"}`, "0", "0"},
		"two images":              {"/v1/images/generations", "openai/gpt-4o", `{"prompt":"a cat","n":2}`, "32.7", "32.9"},
		"speech":                  {"/v1/audio/speech", "openai/gpt-4o", `{"input":"` + strings.Repeat("word ", 200) + `"}`, "4.3", "4.5"},
		"a moderation":            {"/v1/moderations", "openai/gpt-4o", `{"input":"` + strings.Repeat("word ", 600) + `"}`, "1", "1.1"},
		"a limit below zero":      {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":-1}`, "8.192", "8.3"},
	} {
		body, err := request.ParseBody([]byte(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		c := &request.Request{Path: tc.path, Body: body, Dialect: wire.Chat}
		got := acct.Estimate(c, accounting.Attempt{Backend: "openrouter", Metered: true, Model: tc.model})
		if got < accountingtest.USD(tc.least) || got > accountingtest.USD(tc.most) {
			t.Errorf("%s: %s, want %s to %s", name, got, tc.least, tc.most)
		}
	}
}

// TestEstimateOfModelChoices: the most expensive of the models that a body names is
// reserved.
func TestEstimateOfModelChoices(t *testing.T) {
	acct := accountingtest.New(t, accountingtest.Daily("100"))
	expensive := price.Table{"a": {Completion: 1}, "b": {Completion: 1_000_000_000}}
	acct.Prices = accountingtest.PriceLists{"openrouter": price.NewPriceList(expensive, nil, nil)}
	body, err := request.ParseBody([]byte(`{"model":"a","models":["b"],"max_tokens":1000}`))
	if err != nil {
		t.Fatal(err)
	}
	c := &request.Request{Path: "/v1/chat/completions", Body: body, Dialect: wire.Chat}
	if many, err := request.ParseBody([]byte(`{"model":"x","models":[` + strings.Repeat(`"a",`, 1<<16) + `"a"]}`)); err != nil || len(many.Choices) > request.MaxChoicesOfModels+1 {
		t.Errorf("%d models are kept, %v", len(many.Choices), err)
	}
	if got := acct.Estimate(c, accounting.Attempt{Backend: "openrouter", Metered: true, Model: "a"}); got != usd.Amount(1_000_000) {
		t.Errorf("%d picodollars are reserved", got)
	}
}

// TestCostIsACopy: the ledger keeps a row longer than its call, so that a cost must not
// point into the call's memory.
func TestCostIsACopy(t *testing.T) {
	var total accounting.Total
	total.Add(&accounting.Charge{Cost: new(accountingtest.USD("1"))})
	first := total.Cost()
	total.Add(&accounting.Charge{Cost: new(accountingtest.USD("2"))})
	if *first != accountingtest.USD("1") || *total.Cost() != accountingtest.USD("3") {
		t.Errorf("%s, then %s", *first, total.Cost())
	}
}
