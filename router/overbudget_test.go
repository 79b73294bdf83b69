package router

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

func daily(s string) budget.Limits { return budget.Limits{Daily: new(dollars(s))} }

// wantOverBudget checks that an answer is the error of a call that can't be paid for.
func wantOverBudget(t *testing.T, r reply) (retryAfter int) {
	t.Helper()
	e := gjson.Get(r.body, "error")
	retryAfter, _ = strconv.Atoi(r.header.Get("Retry-After"))
	if r.status != 429 || e.Get("type").Str != "insufficient_quota" || e.Get("code").Str != "budget_exceeded" || retryAfter <= 0 ||
		!strings.Contains(e.Get("message").Str, "the daily budget of") {
		t.Errorf("%d %s, Retry-After %d", r.status, r.body, retryAfter)
	}
	return retryAfter
}

// TestOverBudget: what would have to be paid for is refused, what the GPU can do is
// done, and the upstream is not asked.
func TestOverBudget(t *testing.T) {
	down := status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	over := daily("0.000001")
	for name, tc := range map[string]struct {
		local http.HandlerFunc
		state func(*LocalState)
		model string
		ok    bool
		soon  bool // Retry-After is that of the server's return
		says  string
	}{
		"premium":                       {answers, nil, "gpt-4o", false, false, ""},
		"local":                         {answers, nil, "local/qwen", true, false, ""},
		"local fails":                   {down, nil, "local/qwen", false, true, "qwen answered 500: no; "},
		"local fails, alone":            {down, nil, "local/alone", false, false, "-"},
		"local restarts":                {answers, func(s *LocalState) { s.Reason, s.Detail, s.Alive = Restarting, "is restarting", false }, "local/qwen", false, true, "qwen is restarting; "},
		"local is drained":              {answers, func(s *LocalState) { s.Reason, s.Detail, s.Alive = Drained, "is drained", false }, "local/qwen", false, false, "qwen is drained; "},
		"local is degraded":             {answers, func(s *LocalState) { s.Reason, s.Detail = Degraded, "is degraded" }, "local/qwen", true, false, ""},
		"the call is wrong":             {status(400, `{"error":{"message":"bad"}}`), nil, "local/qwen", false, false, "-"},
		"a fallback that costs nothing": {answers, nil, "premium-first", true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit, books := withBooks(t, over)
			b := newBench(t, tc.local, answers, edit, func(_ *Config, routes map[string]models.Route) {
				routes["premium-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Minute}
			})
			if tc.state != nil {
				b.state.set(tc.state)
			}
			r := b.chat(tc.model, false)
			switch {
			case tc.ok:
				if r.status != 200 || r.backend() != "qwen" {
					t.Errorf("%d by %q: %s", r.status, r.backend(), r.body)
				}
			case tc.says == "-":
				if r.status == 429 || r.status == 200 {
					t.Errorf("%d %s", r.status, r.body)
				}
			default:
				wait := wantOverBudget(t, r)
				if tc.soon != (wait == wire.RetrySoon) || !strings.HasPrefix(gjson.Get(r.body, "error.message").Str, tc.says) {
					t.Errorf("Retry-After %d: %s", wait, r.body)
				}
			}
			if n := len(b.cloud.calls()); n != 0 {
				t.Errorf("the upstream was asked %d times", n)
			}
			if got := books.sums(t, ledger.ByRoute).Total; got.Paid != 0 || got.Calls != 1 {
				t.Errorf("in the ledger: %s", summary(got))
			}
		})
	}
}

// TestOverBudgetInAnswers: an answer that breaks is not gone on with by somebody who
// can't be paid.
func TestOverBudgetInAnswers(t *testing.T) {
	edit, _ := withBooks(t, daily("0.000001"))
	b := newBench(t, sends(breaks, opening, said(" one two three"), said(" four five six")), answers, edit, resuming)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"count"}]}`)
	if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || len(b.cloud.calls()) != 0 {
		t.Errorf("%d calls of the upstream: %s", len(b.cloud.calls()), r.body)
	}
}

// TestBudgetNeverExceeded: two hundred calls at once against a dollar, of which each
// costs what was set aside for it at most; and the next day.
func TestBudgetNeverExceeded(t *testing.T) {
	edit, books := withBooks(t, daily("1"))
	var mu sync.Mutex
	now := time.Date(2026, 2, 27, 23, 0, 0, 0, time.UTC)
	var spent usd.Amount
	b := newBench(t, nil, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		spent += dollars("0.019")
		mu.Unlock()
		status(200, priced(`"prompt_tokens":20,"completion_tokens":1,"cost":0.019`))(w, r)
	}, edit, func(c *Config, _ map[string]models.Route) {
		c.Books.now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	for day := range 2 {
		mu.Lock()
		spent = 0
		mu.Unlock()
		var calls sync.WaitGroup
		refused, answered := 0, 0
		for range 200 {
			calls.Go(func() {
				r := b.post("/v1/chat/completions", `{"model":"gpt-4o","max_tokens":2,"messages":[]}`)
				mu.Lock()
				defer mu.Unlock()
				if r.status == 200 {
					answered++
					return
				}
				refused++
				if r.status != 429 {
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
		calls.Wait()
		last := b.post("/v1/chat/completions", `{"model":"gpt-4o","max_tokens":2000,"messages":[]}`)
		mu.Lock()
		if spent > usd.Dollar || spent < dollars("0.9") || refused == 0 || answered == 0 {
			t.Errorf("day %d: %s is spent, %d calls answered, %d refused", day, spent, answered, refused)
		}
		for _, s := range books.Budget.Statuses(now) {
			if s.Spent != spent || s.Reserved != 0 {
				t.Errorf("day %d: %+v, want %s spent", day, s, spent)
			}
		}
		if wait := wantOverBudget(t, last); wait != 3601 && day == 0 {
			t.Errorf("day %d: Retry-After %d", day, wait)
		}
		now = now.Add(time.Hour) // and a new day
		mu.Unlock()
	}
}

// TestEstimates: what is set aside is more than nearly every call takes.
func TestEstimates(t *testing.T) {
	_, books := withBooks(t, daily("100"))
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
		"a limit below zero":      {"/v1/chat/completions", "openai/gpt-4o", `{"max_tokens":-1}`, "8.192", "8.3"},
	} {
		body, err := request.ParseBody([]byte(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		d := endpoints[tc.path]
		c := &call{path: tc.path, body: body, dialect: d, books: books}
		got := c.estimate(step{backend: &upstreamBackend{Upstream: Upstream{Name: "openrouter", Key: "k"}}, model: tc.model})
		if got < dollars(tc.least) || got > dollars(tc.most) {
			t.Errorf("%s: %s, want %s to %s", name, got, tc.least, tc.most)
		}
	}
}

// TestPromptTokensOfManyMarks: what looks like the beginning of many attachments is
// passed over once, and not once for each.
func TestPromptTokensOfManyMarks(t *testing.T) {
	for _, mark := range []string{`{"data":""},`, `{"data": "x"},`, `;base64,","data":"",`} {
		raw := []byte(strings.Repeat(mark, 16<<20/len(mark)))
		counted := make(chan int64, 1)
		go func() { counted <- promptTokens(raw) }()
		select {
		case tokens := <-counted:
			if want := int64(len(raw)/tokenBytes) + 1; tokens != want {
				t.Errorf("%s: %d tokens, want %d", mark, tokens, want)
			}
		case <-time.After(time.Minute): // it takes some 100 ms, and took many minutes
			t.Fatalf("%s: it goes on", mark)
		}
	}
}
