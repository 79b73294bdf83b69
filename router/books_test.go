package router

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
)

// withBooks gives a bench a ledger, prices for its models, and limits.
func withBooks(t *testing.T, limits budget.Limits) (edit func(*plan.Config, map[string]models.Route), books *accounting.Accounting) {
	t.Helper()
	books = accountingtest.New(t, limits)
	return func(c *plan.Config, _ map[string]models.Route) { c.Accounting = *books }, books
}

// sums waits until all that was recorded is in the ledger, and adds it up.
func sums(t *testing.T, b *accounting.Accounting, by ledger.By) ledger.Usage {
	t.Helper()
	if err := b.Ledger.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := b.Ledger.Usages(t.Context(), time.Time{}, time.Time{}, by)
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// summary says of calls what matters for the bill.
func summary(s ledger.Sums) string {
	return fmt.Sprintf("calls %d failed %d local %d paid %d resumed %d partial %d, tokens %d (%d cached) + %d, unknown %d, cost %s unknown %d, saved %s unknown %d",
		s.Calls, s.Failed, s.Local, s.Paid, s.Resumed, s.Partial, s.Prompt, s.Cached, s.Completion, s.UnknownTokens,
		s.Cost, s.UnknownCost, s.Saved, s.UnknownSaved)
}

// priced is an answer of OpenRouter's with its usage.
func priced(usage string) string {
	return `{"object":"chat.completion","choices":[{"message":{"content":" 1 2 3"},"finish_reason":"stop"}],"usage":{` + usage + `}}`
}

func pricedStream(usage string) string {
	return roleEvent + textEvent + textEvent + finalEvent + `data: {"choices":[],"usage":{` + usage + `}}` + "\n\n" + doneEvent
}

func stream(body string) http.HandlerFunc { return sends(ends, body) }

// TestBooks: what one call leaves in the ledger, whoever answered it and however it
// ended.
func TestBooks(t *testing.T) {
	const tokens = `"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40}`
	down := status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		model        string
		stream       bool
		want         string
	}{
		"local": {
			answers, nil, "local/qwen", false,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 0, tokens 7 (0 cached) + 3, unknown 0, cost 0 unknown 0, saved 0.013 unknown 0",
		},
		"local, nobody else has it": {
			answers, nil, "local/alone", false,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 0, tokens 7 (0 cached) + 3, unknown 0, cost 0 unknown 0, saved 0 unknown 1",
		},
		"local stream": {
			stream(wholeSSE), nil, "local/qwen", true,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 0, tokens 7 (0 cached) + 3, unknown 0, cost 0 unknown 0, saved 0.013 unknown 0",
		},
		"premium": {
			nil, status(200, priced(tokens)), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.084 unknown 0, saved 0 unknown 0",
		},
		"the upstream knows better": {
			nil, status(200, priced(tokens+`,"cost":0.0123`)), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.0123 unknown 0, saved 0 unknown 0",
		},
		"premium stream": {
			nil, stream(pricedStream(tokens + `,"cost":1.5e-7`)), "gpt-4o", true,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.00000015 unknown 0, saved 0 unknown 0",
		},
		"no price": {
			nil, status(200, priced(tokens)), "vendor/model", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0 unknown 1, saved 0 unknown 0",
		},
		"no usage": {
			nil, status(200, `{"choices":[{"message":{"content":" 1"}}]}`), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 1, cost 0 unknown 1, saved 0 unknown 0",
		},
		"the fallback": {
			down, status(200, priced(tokens)), "local/qwen", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.084 unknown 0, saved 0 unknown 0",
		},
		"refused by the upstream": {
			nil, status(402, `{"error":{"message":"no credit"}}`), "gpt-4o", false,
			"calls 1 failed 1 local 0 paid 0 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0 unknown 0, saved 0 unknown 0",
		},
		"a gateway's patience": {
			nil, status(504, `{"error":{"message":"timeout"}}`), "gpt-4o", false,
			"calls 1 failed 1 local 0 paid 1 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0 unknown 1, saved 0 unknown 0",
		},
		"broken by the upstream": {
			nil, breaks, "gpt-4o", false,
			"calls 1 failed 1 local 0 paid 1 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0 unknown 1, saved 0 unknown 0",
		},
		"200 with an error, and a bill": {
			nil, status(200, `{"error":{"message":"no"},"usage":{"cost":0.25}}`), "gpt-4o", false,
			"calls 1 failed 1 local 0 paid 1 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0.25 unknown 0, saved 0 unknown 0",
		},
		"cut": {
			nil, sends(breaks, roleEvent, textEvent, textEvent, textEvent), "gpt-4o", true,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 1, tokens 0 (0 cached) + 3, unknown 1, cost 0 unknown 1, saved 0 unknown 0",
		},
		"cut local stream": {
			sends(breaks, roleEvent, textEvent, textEvent), nil, "local/alone", true,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 1, tokens 0 (0 cached) + 2, unknown 1, cost 0 unknown 0, saved 0 unknown 1",
		},
		"no such model": {
			nil, nil, "bogus", false,
			"calls 1 failed 1 local 0 paid 0 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0 unknown 0, saved 0 unknown 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit, books := withBooks(t, budget.Limits{})
			b := newBench(t, tc.local, tc.cloud, edit)
			b.chat(tc.model, tc.stream)
			total := sums(t, books, ledger.ByRoute).Total
			if got := summary(total); got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
			b.asInBooks(total)
		})
	}
}

// TestBooksOfResumedAnswers: the GPU's part saves, the rest is paid for.
func TestBooksOfResumedAnswers(t *testing.T) {
	for name, streamed := range map[string]bool{"stream": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			edit, books := withBooks(t, budget.Limits{})
			rest := pricedStream(`"prompt_tokens":110,"completion_tokens":5,"cost":0.5`)
			if !streamed {
				rest = priced(`"prompt_tokens":110,"completion_tokens":5,"cost":0.5`)
			}
			first := []string{opening, said(" one two three"), said(" four five six")}
			for i := range first { // as a llama-server tells with timings_per_token
				first[i] = strings.Replace(first[i], `"choices"`, fmt.Sprintf(`"timings":{"predicted_n":%d},"choices"`, i), 1)
			}
			b := newBench(t, sends(breaks, first...), func(w http.ResponseWriter, r *http.Request) {
				if streamed {
					stream(rest)(w, r)
				} else {
					status(200, rest)(w, r)
				}
			}, edit, resuming)
			b.state.set(func(s *backend.LocalState) { s.Streams = true })
			r := b.post("/v1/chat/completions", fmt.Sprintf(`{"model":"local/qwen","stream":%t,"messages":[{"role":"user","content":"count"}]}`, streamed))
			if r.status != 200 || r.readErr != nil {
				t.Fatalf("%+v", r)
			}
			want := "calls 1 failed 0 local 1 paid 1 resumed 1 partial 0, tokens 108 (0 cached) + 7, unknown 0, cost 0.5 unknown 0, saved 0.112 unknown 0"
			total := sums(t, books, ledger.ByRoute).Total
			if got := summary(total); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
			b.asInBooks(total)
		})
	}
}

// TestPaidIsDurableBeforeTheEnd: whoever has the last byte of an answer that was paid
// for finds the call in the ledger.
func TestPaidIsDurableBeforeTheEnd(t *testing.T) {
	for name, streamed := range map[string]bool{"stream": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			edit, books := withBooks(t, budget.Limits{})
			answer := priced(`"cost":0.5`)
			if streamed {
				answer = pricedStream(`"cost":0.5`)
			}
			options := `"stream_options":{"include_usage":true}`
			b := newBench(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if streamed {
					stream(answer)(w, r)
				} else {
					status(200, answer)(w, r)
				}
			}, edit)
			seen := make(chan int64, 1)
			at := &lastByte{whole: len(answer), seen: func() { seen <- sums(t, books, ledger.ByRoute).Total.Paid }}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions",
				strings.NewReader(fmt.Sprintf(`{"model":"gpt-4o","stream":%t,%s,"messages":[]}`, streamed, options)))
			req.Host = "localhost"
			b.router.ServeHTTP(at, req)
			select {
			case paid := <-seen:
				if paid != 1 {
					t.Errorf("%d paid calls in the ledger when the last byte was written", paid)
				}
			default:
				t.Error("the answer has no end")
			}
		})
	}
}

// TestPaidForNothingIsDurable: so is an attempt that was paid for in vain, where the GPU
// answers in the end.
func TestPaidForNothingIsDurable(t *testing.T) {
	edit, books := withBooks(t, budget.Limits{})
	b := newBench(t, answers, breaks, edit)
	b.state.set(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	seen := make(chan int64, 1)
	at := &lastByte{whole: len(wholeChat), seen: func() { seen <- sums(t, books, ledger.ByRoute).Total.Paid }}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"model":"local/qwen","messages":[]}`))
	req.Host = "localhost"
	b.router.ServeHTTP(at, req)
	select {
	case paid := <-seen:
		if paid != 1 || len(b.cloud.calls()) != 1 {
			t.Errorf("%d paid calls in the ledger when the last byte was written, %d at the cloud", paid, len(b.cloud.calls()))
		}
	default:
		t.Error("the answer has no end")
	}
}

// lastByte is a ResponseWriter that says when the last byte of an answer is written.
type lastByte struct {
	header http.Header
	whole  int
	n      int
	seen   func()
}

func (w *lastByte) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (w *lastByte) WriteHeader(int) {}
func (w *lastByte) Flush()          {}
func (w *lastByte) Write(p []byte) (int, error) {
	if w.n += len(p); w.n == w.whole {
		w.seen()
	}
	return len(p), nil
}
