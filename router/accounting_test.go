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

// withLedger gives a fixture a ledger, prices for its models, and limits.
func withLedger(t *testing.T, limits budget.Limits) (edit func(*plan.Config, map[string]models.Route), acct *accounting.Accounting) {
	t.Helper()
	acct = accountingtest.New(t, limits)
	return func(c *plan.Config, _ map[string]models.Route) { c.Accounting = *acct }, acct
}

// usageBy waits until all calls are in the ledger, and adds them up.
func usageBy(t *testing.T, b *accounting.Accounting, by ledger.By) ledger.Usage {
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

// summary prints the sums that matter for the bill.
func summary(s ledger.Sums) string {
	return fmt.Sprintf("calls %d failed %d local %d paid %d resumed %d partial %d, tokens %d (%d cached) + %d, unknown %d, cost %s unknown %d, saved %s unknown %d",
		s.Calls, s.Failed, s.Local, s.Paid, s.Resumed, s.Partial, s.Prompt, s.Cached, s.Completion, s.UnknownTokens,
		s.Cost, s.UnknownCost, s.Saved, s.UnknownSaved)
}

// chatWithUsage is an answer of OpenRouter's with its usage.
func chatWithUsage(usage string) string {
	return `{"object":"chat.completion","choices":[{"message":{"content":" 1 2 3"},"finish_reason":"stop"}],"usage":{` + usage + `}}`
}

func streamWithUsage(usage string) string {
	return roleEvent + textEvent + textEvent + finalEvent + `data: {"choices":[],"usage":{` + usage + `}}` + "\n\n" + doneEvent
}

func sendsStream(body string) http.HandlerFunc { return sends(ends, body) }

// TestLedgerEntry: what one call leaves in the ledger, for each backend that may answer
// and each way to end.
func TestLedgerEntry(t *testing.T) {
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
		"local, without a fallback": {
			answers, nil, "local/alone", false,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 0, tokens 7 (0 cached) + 3, unknown 0, cost 0 unknown 0, saved 0 unknown 1",
		},
		"local stream": {
			sendsStream(wholeSSE), nil, "local/qwen", true,
			"calls 1 failed 0 local 1 paid 0 resumed 0 partial 0, tokens 7 (0 cached) + 3, unknown 0, cost 0 unknown 0, saved 0.013 unknown 0",
		},
		"premium": {
			nil, status(200, chatWithUsage(tokens)), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.084 unknown 0, saved 0 unknown 0",
		},
		"the upstream reports the cost": {
			nil, status(200, chatWithUsage(tokens+`,"cost":0.0123`)), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.0123 unknown 0, saved 0 unknown 0",
		},
		"premium stream": {
			nil, sendsStream(streamWithUsage(tokens + `,"cost":1.5e-7`)), "gpt-4o", true,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.00000015 unknown 0, saved 0 unknown 0",
		},
		"no price": {
			nil, status(200, chatWithUsage(tokens)), "vendor/model", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0 unknown 1, saved 0 unknown 0",
		},
		"no usage": {
			nil, status(200, `{"choices":[{"message":{"content":" 1"}}]}`), "gpt-4o", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 1, cost 0 unknown 1, saved 0 unknown 0",
		},
		"the fallback": {
			down, status(200, chatWithUsage(tokens)), "local/qwen", false,
			"calls 1 failed 0 local 0 paid 1 resumed 0 partial 0, tokens 100 (40 cached) + 10, unknown 0, cost 0.084 unknown 0, saved 0 unknown 0",
		},
		"refused by the upstream": {
			nil, status(402, `{"error":{"message":"no credit"}}`), "gpt-4o", false,
			"calls 1 failed 1 local 0 paid 0 resumed 0 partial 0, tokens 0 (0 cached) + 0, unknown 0, cost 0 unknown 0, saved 0 unknown 0",
		},
		"a gateway's timeout": {
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
			edit, acct := withLedger(t, budget.Limits{})
			b := newFixture(t, tc.local, tc.cloud, edit)
			b.chat(tc.model, tc.stream)
			total := usageBy(t, acct, ledger.ByRoute).Total
			if got := summary(total); got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
			b.wantLedgerMetrics(total)
		})
	}
}

// TestLedgerOfResumedAnswers: the first part counts as savings, the continuation is paid.
func TestLedgerOfResumedAnswers(t *testing.T) {
	for name, streamed := range map[string]bool{"stream": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			edit, acct := withLedger(t, budget.Limits{})
			rest := streamWithUsage(`"prompt_tokens":110,"completion_tokens":5,"cost":0.5`)
			if !streamed {
				rest = chatWithUsage(`"prompt_tokens":110,"completion_tokens":5,"cost":0.5`)
			}
			first := []string{firstChunk, textChunk(" one two three"), textChunk(" four five six")}
			for i := range first { // as llama-server sends with timings_per_token
				first[i] = strings.Replace(first[i], `"choices"`, fmt.Sprintf(`"timings":{"predicted_n":%d},"choices"`, i), 1)
			}
			b := newFixture(t, sends(breaks, first...), func(w http.ResponseWriter, r *http.Request) {
				if streamed {
					sendsStream(rest)(w, r)
				} else {
					status(200, rest)(w, r)
				}
			}, edit, withResume)
			b.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
			r := b.post("/v1/chat/completions", fmt.Sprintf(`{"model":"local/qwen","stream":%t,"messages":[{"role":"user","content":"count"}]}`, streamed))
			if r.status != 200 || r.readErr != nil {
				t.Fatalf("%+v", r)
			}
			want := "calls 1 failed 0 local 1 paid 1 resumed 1 partial 0, tokens 108 (0 cached) + 7, unknown 0, cost 0.5 unknown 0, saved 0.112 unknown 0"
			total := usageBy(t, acct, ledger.ByRoute).Total
			if got := summary(total); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
			b.wantLedgerMetrics(total)
		})
	}
}

// TestChargeIsDurableBeforeLastByte: when a client has the last byte of a paid answer, the
// call is in the ledger.
func TestChargeIsDurableBeforeLastByte(t *testing.T) {
	for name, streamed := range map[string]bool{"stream": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			edit, acct := withLedger(t, budget.Limits{})
			answer := chatWithUsage(`"cost":0.5`)
			if streamed {
				answer = streamWithUsage(`"cost":0.5`)
			}
			options := `"stream_options":{"include_usage":true}`
			b := newFixture(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if streamed {
					sendsStream(answer)(w, r)
				} else {
					status(200, answer)(w, r)
				}
			}, edit)
			seen := make(chan int64, 1)
			at := &lastByteWriter{length: len(answer), onLastByte: func() { seen <- usageBy(t, acct, ledger.ByRoute).Total.Paid }}
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

// TestChargeOfFailedAttemptIsDurable: an attempt that was paid and failed is in the
// ledger, too, before the last byte of the GPU's answer.
func TestChargeOfFailedAttemptIsDurable(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	b := newFixture(t, answers, breaks, edit)
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	seen := make(chan int64, 1)
	at := &lastByteWriter{length: len(wholeChat), onLastByte: func() { seen <- usageBy(t, acct, ledger.ByRoute).Total.Paid }}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"model":"local/qwen","messages":[]}`))
	req.Host = "localhost"
	b.router.ServeHTTP(at, req)
	select {
	case paid := <-seen:
		if paid != 1 || len(b.cloud.requests()) != 1 {
			t.Errorf("%d paid calls in the ledger when the last byte was written, %d at the cloud", paid, len(b.cloud.requests()))
		}
	default:
		t.Error("the answer has no end")
	}
}

// lastByteWriter is a ResponseWriter that says when the last byte of an answer is written.
type lastByteWriter struct {
	header     http.Header
	length     int
	n          int
	onLastByte func()
}

func (w *lastByteWriter) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}
func (w *lastByteWriter) WriteHeader(int) {}
func (w *lastByteWriter) Flush()          {}
func (w *lastByteWriter) Write(p []byte) (int, error) {
	if w.n += len(p); w.n == w.length {
		w.onLastByte()
	}
	return len(p), nil
}

// TestTruncatedMessageUsage: a message that breaks has as many tokens as were seen, not
// the 0 or 1 of its first event.
func TestTruncatedMessageUsage(t *testing.T) {
	edit, acct := withLedger(t, budget.Limits{})
	delta := "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"
	b := newFixture(t, nil, sends(breaks,
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n", delta, delta, delta), edit)
	b.post("/v1/messages", `{"model":"gpt-4o","stream":true,"max_tokens":9,"messages":[]}`)
	if got := usageBy(t, acct, ledger.ByRoute).Total; got.Partial != 1 || got.Prompt != 10 || got.Completion != 3 || got.UnknownCost != 1 {
		t.Errorf("%+v", got)
	}
}
