package record

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// metricLines returns the lines of /metrics of some families, without their comments.
func metricLines(g prometheus.Gatherer, names ...string) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var found strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if name, _, _ := strings.Cut(line, "{"); slices.Contains(names, strings.Fields(name)[0]) {
			found.WriteString(line)
		}
	}
	return found.String()
}

// wantSeries compares families of a registry with what they should be.
func wantSeries(t *testing.T, g prometheus.Gatherer, want string, names ...string) {
	t.Helper()
	if got := metricLines(g, names...); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// totalOf returns the total of a call with one attempt; nil = of unknown cost.
func totalOf(cost *usd.Amount) (t accounting.Total) {
	t.Add(&accounting.Charge{Cost: cost})
	return t
}

// answer is the answer of a local server.
func answer(server string) Answer {
	return Answer{
		Backend: server, FirstAnswer: 300 * time.Millisecond, Local: true,
		Usage: wire.Usage{Prompt: new(int64(100)), Cached: new(int64(40)), Completion: new(int64(7))},
	}
}

func TestObserve(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := NewMetrics(registry)
	observe := func(status int, duration time.Duration, rec Record) {
		if rec.Status = status; status == StatusClientClosedRequest {
			rec.Status, rec.Incomplete = 0, ErrClientGone
		}
		rec.Request = &request.Request{}
		m.Observe(&rec, duration)
	}
	local := Record{Route: "local/qwen", Answer: answer("qwen"), Costs: Costs{savings: new(usd.Dollar / 4)}}
	observe(200, time.Second, local)
	observe(200, time.Second, local)
	local.savings = nil
	observe(200, time.Second, local)
	local.Usage = wire.Usage{}
	local.Incomplete = errors.New("cut")
	observe(200, time.Second, local)
	observe(400, time.Second, Record{Route: "local/qwen", Answer: Answer{Backend: "qwen", Local: true}}) // what saves nothing is not unknown

	cloud := Record{
		Route: "local/qwen", Reason: backend.Timeout, Costs: Costs{Total: totalOf(new(3 * usd.Dollar / 2))},
		Answer: Answer{Backend: "openrouter", FirstAnswer: 61 * time.Second, Usage: wire.Usage{Prompt: new(int64(5))}},
	}
	observe(200, 61*time.Second, cloud)
	cloud.Total = totalOf(nil)
	cloud.Usage = wire.Usage{Prompt: new(int64(-5)), Cached: new(int64(-1)), Completion: new(int64(-7))} // an upstream may send anything
	observe(http.StatusOK, 100*time.Second, cloud)
	observe(StatusClientClosedRequest, 10*time.Second, Record{Route: "local/qwen", Reason: backend.Timeout, Costs: Costs{Total: totalOf(nil)}})
	observe(502, 70*time.Second, Record{Route: "local/qwen", Reason: backend.Timeout, Costs: Costs{Total: totalOf(new(usd.Dollar))}})
	observe(404, 0, Record{Answer: Answer{Code: wire.CodeModelNotFound}})

	wantSeries(t, registry, `
llmsup_calls_total{backend="",reason="",route="",status="404"} 1
llmsup_calls_total{backend="",reason="timeout",route="local/qwen",status="499"} 1
llmsup_calls_total{backend="",reason="timeout",route="local/qwen",status="502"} 1
llmsup_calls_total{backend="openrouter",reason="timeout",route="local/qwen",status="200"} 2
llmsup_calls_total{backend="qwen",reason="",route="local/qwen",status="200"} 4
llmsup_calls_total{backend="qwen",reason="",route="local/qwen",status="400"} 1
llmsup_cost_usd_total{backend="",route="local/qwen"} 1
llmsup_cost_usd_total{backend="openrouter",route="local/qwen"} 1.5
llmsup_cost_usd_total{backend="qwen",route="local/qwen"} 0
llmsup_cut_answers_total{backend="openrouter",route="local/qwen"} 0
llmsup_cut_answers_total{backend="qwen",route="local/qwen"} 1
llmsup_refused_calls_total{code="model_not_found"} 1
llmsup_saved_usd_total{backend="openrouter",route="local/qwen"} 0
llmsup_saved_usd_total{backend="qwen",route="local/qwen"} 0.5
llmsup_tokens_total{backend="openrouter",kind="cached",route="local/qwen"} 0
llmsup_tokens_total{backend="openrouter",kind="completion",route="local/qwen"} 0
llmsup_tokens_total{backend="openrouter",kind="prompt",route="local/qwen"} 5
llmsup_tokens_total{backend="qwen",kind="cached",route="local/qwen"} 120
llmsup_tokens_total{backend="qwen",kind="completion",route="local/qwen"} 21
llmsup_tokens_total{backend="qwen",kind="prompt",route="local/qwen"} 180
llmsup_unpriced_calls_total{amount="cost",backend="",route="local/qwen"} 1
llmsup_unpriced_calls_total{amount="cost",backend="openrouter",route="local/qwen"} 1
llmsup_unpriced_calls_total{amount="cost",backend="qwen",route="local/qwen"} 0
llmsup_unpriced_calls_total{amount="saved",backend="openrouter",route="local/qwen"} 0
llmsup_unpriced_calls_total{amount="saved",backend="qwen",route="local/qwen"} 2
`, "llmsup_calls_total", "llmsup_tokens_total", "llmsup_cost_usd_total", "llmsup_saved_usd_total", "llmsup_unpriced_calls_total", "llmsup_cut_answers_total", "llmsup_refused_calls_total")

	wantSeries(t, registry, `
llmsup_call_duration_seconds_count{backend="",route=""} 1
llmsup_call_duration_seconds_count{backend="",route="local/qwen"} 2
llmsup_call_duration_seconds_count{backend="openrouter",route="local/qwen"} 2
llmsup_call_duration_seconds_count{backend="qwen",route="local/qwen"} 5
llmsup_call_first_answer_seconds_sum{backend="openrouter",route="local/qwen"} 122
llmsup_call_first_answer_seconds_count{backend="openrouter",route="local/qwen"} 2
llmsup_call_first_answer_seconds_sum{backend="qwen",route="local/qwen"} 1.2
llmsup_call_first_answer_seconds_count{backend="qwen",route="local/qwen"} 4
`, "llmsup_call_duration_seconds_count", "llmsup_call_first_answer_seconds_sum", "llmsup_call_first_answer_seconds_count")
}

func TestStatusLabels(t *testing.T) {
	words := map[string]bool{}
	for status := range 1000 {
		words[statusLabel(limitStatus(status))] = true
	}
	if len(words) > 85 {
		t.Errorf("%d statuses: %v", len(words), words)
	}
	for status, want := range map[int]string{200: "200", 499: "499", 529: "529", 299: "2xx", 477: "4xx", 599: "5xx", 999: "other", 0: "other", -1: "other", 600: "other"} {
		if got := statusLabel(limitStatus(status)); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry())
	rec := Record{Route: "local/qwen2.5-14b", Answer: answer("qwen2.5-14b"), Costs: Costs{savings: new(usd.Dollar / 4)}}
	rec.Status = 200
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Observe(&rec, time.Second)
		}
	})
}
