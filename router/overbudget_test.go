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
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// wantOverBudget checks that an answer is the error of a call over budget.
func wantOverBudget(t *testing.T, r reply) (retryAfter int) {
	t.Helper()
	e := gjson.Get(r.body, "error")
	retryAfter, _ = strconv.Atoi(r.header.Get("Retry-After"))
	if says, want := r.header.Get("X-Should-Retry"), strconv.FormatBool(retryAfter <= 60); says != want {
		t.Errorf("X-Should-Retry %s with Retry-After %d", says, retryAfter)
	}
	if r.status != 429 || e.Get("type").Str != "insufficient_quota" || e.Get("code").Str != "budget_exceeded" || retryAfter <= 0 ||
		!strings.Contains(e.Get("message").Str, "the daily budget of") {
		t.Errorf("%d %s, Retry-After %d", r.status, r.body, retryAfter)
	}
	return retryAfter
}

// TestOverBudget: over budget, the GPU's calls are answered, paid calls are refused, and
// the upstream is not asked.
func TestOverBudget(t *testing.T) {
	down := status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	over := accountingtest.Daily("0.000001")
	for name, tc := range map[string]struct {
		local http.HandlerFunc
		state func(*backend.LocalState)
		model string
		ok    bool
		soon  bool // Retry-After is that of the server's return
		says  string
	}{
		"premium":                       {answers, nil, "gpt-4o", false, false, ""},
		"local":                         {answers, nil, "local/qwen", true, false, ""},
		"local fails":                   {down, nil, "local/qwen", false, true, "qwen answered 500: no; "},
		"local fails, alone":            {down, nil, "local/alone", false, false, "-"},
		"local restarts":                {answers, func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Restarting, "is restarting", false }, "local/qwen", false, true, "qwen is restarting; "},
		"local is drained":              {answers, func(s *backend.LocalState) { s.Reason, s.Detail, s.Alive = backend.Drained, "is drained", false }, "local/qwen", false, false, "qwen is drained; "},
		"local is degraded":             {answers, func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" }, "local/qwen", true, false, ""},
		"the call is wrong":             {status(400, `{"error":{"message":"bad"}}`), nil, "local/qwen", false, false, "-"},
		"a fallback that costs nothing": {answers, nil, "premium-first", true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit, acct := withLedger(t, over)
			b := newFixture(t, tc.local, answers, edit, func(_ *plan.Config, routes map[string]models.Route) {
				routes["premium-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Minute}
			})
			if tc.state != nil {
				b.state.edit(tc.state)
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
			if n := len(b.cloud.requests()); n != 0 {
				t.Errorf("the upstream was asked %d times", n)
			}
			if got := usageBy(t, acct, ledger.ByRoute).Total; got.Paid != 0 || got.Calls != 1 {
				t.Errorf("in the ledger: %s", summary(got))
			}
		})
	}
}

// TestOverBudgetForGood: a local server that can never answer such a call is no reason to try
// again soon.
func TestOverBudgetForGood(t *testing.T) {
	for name, tc := range map[string]struct {
		path, model string
		local       http.HandlerFunc
		edit        func(*backend.LocalState)
	}{
		"no such path":              {path: "/v1/images/generations", model: "local/qwen", local: answers},
		"no such path, as fallback": {path: "/v1/images/generations", model: "premium-first", local: answers},
		"not implemented":           {path: "/v1/rerank", model: "local/qwen", local: status(501, `{"error":{"message":"no"}}`)},
		"a model that only embeds":  {path: "/v1/chat/completions", model: "local/qwen", local: answers, edit: embedsOnly},
		"the same, as fallback":     {path: "/v1/chat/completions", model: "premium-first", local: answers, edit: embedsOnly},
		"the same, if it is loading": {path: "/v1/chat/completions", model: "local/qwen", local: answers, edit: func(s *backend.LocalState) {
			embedsOnly(s)
			s.Reason, s.Detail, s.Alive, s.Returning = backend.Loading, "is loading", false, true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			edit, _ := withLedger(t, accountingtest.Daily("0.0000001"))
			b := newFixture(t, tc.local, answers, edit, func(_ *plan.Config, routes map[string]models.Route) {
				routes["premium-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Minute}
			})
			if tc.edit != nil {
				b.state.edit(tc.edit)
			}
			r := b.post(tc.path, `{"model":"`+tc.model+`","prompt":"x","messages":[],"documents":["x"]}`)
			if wait := wantOverBudget(t, r); wait == wire.RetrySoon {
				t.Errorf("Retry-After %d: %s", wait, r.body)
			}
		})
	}
}

func embedsOnly(s *backend.LocalState) {
	s.Description = &models.Description{Abilities: []models.Ability{models.Embedding}}
}

// TestNoResumeOverBudget: over budget, an answer that breaks is not continued by a paid
// upstream.
func TestNoResumeOverBudget(t *testing.T) {
	edit, _ := withLedger(t, accountingtest.Daily("0.000001"))
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" one two three"), textChunk(" four five six")), answers, edit, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"count"}]}`)
	if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") || len(b.cloud.requests()) != 0 {
		t.Errorf("%d calls of the upstream: %s", len(b.cloud.requests()), r.body)
	}
}

// TestBudgetNeverExceeded: two hundred concurrent calls against a limit of one dollar,
// each of which costs at most what was reserved for it; and the next day.
func TestBudgetNeverExceeded(t *testing.T) {
	edit, acct := withLedger(t, accountingtest.Daily("1"))
	var mu sync.Mutex
	now := time.Date(2026, 2, 27, 23, 0, 0, 0, time.UTC)
	var spent usd.Amount
	b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		spent += accountingtest.USD("0.019")
		mu.Unlock()
		status(200, chatWithUsage(`"prompt_tokens":20,"completion_tokens":1,"cost":0.019`))(w, r)
	}, edit, func(c *plan.Config, _ map[string]models.Route) {
		c.Accounting.Now = func() time.Time {
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
		if spent > usd.Dollar || spent < accountingtest.USD("0.9") || refused == 0 || answered == 0 {
			t.Errorf("day %d: %s is spent, %d calls answered, %d refused", day, spent, answered, refused)
		}
		for _, s := range acct.Budget.Statuses(now) {
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
