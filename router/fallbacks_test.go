package router

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

// TestThreeFallbacks: a call goes to one fallback after the other, in their order, and the
// error names all that failed.
func TestThreeFallbacks(t *testing.T) {
	overloaded := status(http.StatusServiceUnavailable, `{"error":{"message":"busy"}}`, "Retry-After", "600")
	for name, tc := range map[string]struct {
		second, third http.HandlerFunc
		want          string // the backend that answers; "" = none
	}{
		"the second answers":               {answers, answers, "second"},
		"the third answers":                {overloaded, answers, "third"},
		"the second breaks, and was paid":  {breaks, answers, ""},
		"all are overloaded":               {overloaded, overloaded, ""},
		"the second finds the call wrong":  {status(http.StatusBadRequest, `{"error":{"message":"wrong"}}`), answers, "second"},
		"the second has another key, then": {status(http.StatusUnauthorized, `{"error":{"message":"key"}}`), answers, "third"},
	} {
		t.Run(name, func(t *testing.T) {
			second, third := newFakeBackend(t, tc.second), newFakeBackend(t, tc.third)
			b := newFixture(t, status(http.StatusInternalServerError, `{"error":{"message":"no"}}`), overloaded, func(c *plan.Config, routes map[string]models.Route) {
				c.Upstreams = append(
					c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k2"}, backend.UpstreamConfig{Name: "third", BaseURL: third.URL, Key: "k3"},
				)
				route := routes["local/qwen"]
				route.Fallback, route.FallbackModel = "", ""
				route.Fallbacks = []models.Fallback{{To: "openrouter", Model: "a"}, {To: "second", Model: "b"}, {To: "third", Model: "c"}}
				routes["local/qwen"] = route
			})
			r := b.chat("local/qwen", false)
			if r.backend() != tc.want || (r.status < 500) != (tc.want != "") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// withFallbacks gives local/qwen several fallbacks.
func withFallbacks(upstreams []backend.UpstreamConfig, to ...string) func(*plan.Config, map[string]models.Route) {
	return func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, upstreams...)
		route := routes["local/qwen"]
		route.Fallback, route.FallbackModel = "", ""
		for _, name := range to {
			route.Fallbacks = append(route.Fallbacks, models.Fallback{To: name, Model: "m"})
		}
		routes["local/qwen"] = route
	}
}

// TestNoAlternativeAfterPaidAttempt: a free fallback that is rate-limited is asked again
// if the only backend behind it must not be paid any more.
func TestNoAlternativeAfterPaidAttempt(t *testing.T) {
	var asked atomic.Int32
	free := newFakeBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			status(http.StatusTooManyRequests, `{"error":{"message":"rate limit"}}`, "Retry-After", "0")(w, r)
			return
		}
		answers(w, r)
	})
	third := newFakeBackend(t, answers)
	b := newFixture(t, status(http.StatusInternalServerError, `{"error":{"message":"no"}}`), breaks, withFallbacks([]backend.UpstreamConfig{
		{Name: "free", BaseURL: free.URL}, {Name: "third", BaseURL: third.URL, Key: "k3"},
	}, "openrouter", "free", "third"))
	if r := b.chat("local/qwen", false); r.status != http.StatusOK || r.backend() != "free" {
		t.Errorf("%+v", r)
	}
	if n, paid := asked.Load(), len(b.cloud.requests())+len(third.requests()); n != 2 || paid != 1 {
		t.Errorf("%d calls of the free one, %d paid", n, paid)
	}
}

// TestResumeBySecondFallback: a stream that broke is continued by the second fallback if
// the first one rejects it, but not if that would pay twice.
func TestResumeBySecondFallback(t *testing.T) {
	rest := sends(ends, strings.ReplaceAll(textChunk(" 3"), "chatcmpl-1", "gen-9")+finishChunk("stop")+doneEvent)
	for name, tc := range map[string]struct {
		first http.HandlerFunc
		key   string // of the second
		by    string // "" = none
	}{
		"the first has no credit":           {status(http.StatusPaymentRequired, `{"error":{"message":"no credit"}}`), "k2", "second"},
		"the first breaks, and may be paid": {breaks, "k2", ""},
		"the first breaks, the second free": {breaks, "", "second"},
	} {
		t.Run(name, func(t *testing.T) {
			second := newFakeBackend(t, rest)
			b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), tc.first,
				withFallbacks([]backend.UpstreamConfig{{Name: "second", BaseURL: second.URL, Key: tc.key}}, "openrouter", "second"), withResume)
			r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"count"}]}`)
			if got := len(second.requests()); (got == 1) != (tc.by != "") {
				t.Errorf("the second was asked %d times", got)
			}
			if tc.by == "" {
				if !strings.Contains(r.body, `"error"`) || strings.Contains(r.body, "[DONE]") {
					t.Errorf("%+v", r)
				}
				return
			}
			if text := streamText(t, r.body); text != " 1 2 3" || !strings.Contains(b.log.String(), `"resumed_by":"second"`) {
				t.Errorf("%q: %s", text, b.log)
			}
		})
	}
}

// TestWaitForFallback: a local fallback that was skipped because its queue is full is
// waited for if the fallbacks behind it fail.
func TestWaitForFallback(t *testing.T) {
	primary := newFakeBackend(t, status(http.StatusInternalServerError, `{"error":{"message":"no"}}`))
	l := newGatedServer(t, 1, func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "first", BaseURL: primary.URL, Key: "k"})
		routes["first"] = models.Route{Primary: "first", Fallbacks: []models.Fallback{{To: "qwen"}, {To: "openrouter"}}, Timeout: time.Minute}
	})
	l.cloud.mu.Lock()
	l.cloud.handler = status(http.StatusPaymentRequired, `{"error":{"message":"no credit"}}`)
	l.cloud.mu.Unlock()
	b := l.router.routing.Load().Server("qwen")
	b.Served(10 * time.Minute) // longer than a fallback's timeout
	alone := l.startChat(t.Context(), "local/alone", "x")
	<-l.arrived
	moved := l.startChat(t.Context(), "first", "y")
	l.waitQueued(1)
	l.proceed <- struct{}{}
	<-l.arrived
	l.proceed <- struct{}{}
	for _, done := range []<-chan reply{alone, moved} {
		if r := <-done; r.status != http.StatusOK || r.backend() != "qwen" {
			t.Errorf("%+v", r)
		}
	}
}

// TestRestRejectedForItsField: a local fallback that does not continue an answer, and names
// a field of its own, gets the whole call.
func TestRestRejectedForItsField(t *testing.T) {
	var asked atomic.Int32
	second := newFakeBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			status(http.StatusBadRequest, `{"error":{"message":"needs continue_final_message","type":"invalid_request_error"}}`)(w, r)
			return
		}
		answers(w, r)
	})
	server := &fakeLocal{state: backend.LocalState{Alive: true, Network: "tcp", Address: second.Listener.Addr().String(), Gone: make(chan struct{})}}
	b := newStreamingFixture(t, sends(breaks, localFirst+localChunk(longText, "1")+localChunk(" 2", "2")), answers, func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["second"] = server
		routes["local/qwen"] = models.Route{Primary: "qwen", Fallback: "second", Resume: true, Timeout: time.Minute}
	})
	if r := b.post("/v1/chat/completions", nonStreamingCall); r.body != wholeChat || r.backend() != "second" {
		t.Errorf("asked %d times: %+v", asked.Load(), r)
	}
}

// TestRestWithoutStreamIsPriced: a continuation that comes without a stream is of no use,
// but its cost is known.
func TestRestWithoutStreamIsPriced(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	whole := status(http.StatusOK, chatWithUsage(`"prompt_tokens":110,"completion_tokens":5`))
	b := newFixture(t, sends(breaks, firstChunk, textChunk(" 1"), textChunk(" 2")), whole, edit, withResume)
	r := b.post("/v1/chat/completions", `{"model":"local/qwen","stream":true,"messages":[{"role":"user","content":"count"}]}`)
	if got := usageBy(t, acct, ledger.ByRoute).Total; got.Paid != 1 || got.UnknownCost != 0 || got.Cost == 0 {
		t.Errorf("%s after %+v", summary(got), r)
	}
}

// TestBothOverBudget: a call whose primary and fallback are over budget says so of both.
func TestBothOverBudget(t *testing.T) {
	edit, _ := withLedger(t, accountingtest.Daily("0.000001"))
	second := newFakeBackend(t, answers)
	b := newFixture(t, answers, answers, edit, func(c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "second", BaseURL: second.URL, Key: "k2"})
		routes["gpt-4o"] = models.Route{Primary: "openrouter", Fallback: "second", Timeout: time.Minute}
	})
	r := b.chat("gpt-4o", false)
	wantOverBudget(t, r)
	if r.reason() != "failed" || !strings.Contains(r.body, "openrouter was skipped") {
		t.Errorf("%+v", r)
	}
}

// TestKeyIsRedactedOnce: what stands for a key in a message is not searched for it again.
func TestKeyIsRedactedOnce(t *testing.T) {
	b := newFixture(t, breaks, breaks, func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].Key = "e" })
	if r := b.chat("gpt-4o", false); !strings.Contains(r.body, "openrouter lost th[key] conn[key]ction") {
		t.Errorf("%+v", r)
	}
}

// TestLocalEndpointWithoutFallback: an error of an endpoint that only a local server has
// names the fallback that the key may not pay.
func TestLocalEndpointWithoutFallback(t *testing.T) {
	b := newFixture(t, breaks, answers, func(c *plan.Config, _ map[string]models.Route) {
		c.Access = access.Policy{Keys: []access.Key{{Name: "crawler", SHA256: sha256.Sum256([]byte("secret")), FreeOnly: true}}}
	})
	r := b.post("/tokenize", `{"model":"local/qwen","content":"x"}`, "Authorization", "Bearer secret")
	if !strings.Contains(r.body, "the key crawler is free_only, so openrouter was skipped") || strings.Contains(r.body, "has no fallback") {
		t.Errorf("%+v", r)
	}
}
