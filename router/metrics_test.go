package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
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

// wantLedgerMetrics checks that the metrics have the same sums as the ledger.
func (b *fixture) wantLedgerMetrics(want ledger.Sums) {
	b.t.Helper()
	b.waitIdle()
	sum := func(name, label string) (total float64) {
		for line := range strings.Lines(metricLines(b.router.registry, name)) {
			if strings.Contains(line, label) {
				value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
				if err != nil {
					b.t.Error(err)
				}
				total += value
			}
		}
		return total
	}
	for what, is := range map[string]struct{ got, want float64 }{
		"calls":          {sum("llmsup_calls_total", ""), float64(want.Calls)},
		"prompt tokens":  {sum("llmsup_tokens_total", `"prompt"`), float64(want.Prompt - want.Cached)},
		"cached tokens":  {sum("llmsup_tokens_total", `"cached"`), float64(want.Cached)},
		"tokens":         {sum("llmsup_tokens_total", `"completion"`), float64(want.Completion)},
		"cost":           {sum("llmsup_cost_usd_total", ""), want.Cost.Float()},
		"saved":          {sum("llmsup_saved_usd_total", ""), want.Saved.Float()},
		"unknown cost":   {sum("llmsup_unpriced_calls_total", `"cost"`), float64(want.UnknownCost)},
		"unknown saving": {sum("llmsup_unpriced_calls_total", `"saved"`), float64(want.UnknownSaved)},
	} {
		if math.Abs(is.got-is.want) > 1e-9 {
			b.t.Errorf("%s: %v in the metrics, %v in the ledger", what, is.got, is.want)
		}
	}
}

// TestUpstreamMetrics: the circuit breaker as calls meet it, and two URLs of one host.
func TestUpstreamMetrics(t *testing.T) {
	b := newFixture(t, answers, answers, func(_ *plan.Config, routes map[string]models.Route) {
		routes["one"] = models.Route{Primary: "http://127.0.0.1:1/one", Timeout: waitLimit}
		routes["two"] = models.Route{Primary: "http://127.0.0.1:1/two", Timeout: waitLimit}
	})
	want := func(one, openrouter backend.BreakerState) {
		t.Helper()
		var text strings.Builder
		for _, state := range backend.BreakerStates { // sorted as the page is
			for _, so := range []struct {
				name string
				now  backend.BreakerState
			}{{"127.0.0.1:1", one}, {"openrouter", openrouter}} {
				fmt.Fprintf(&text, "llmsup_upstream_breaker_state{state=%q,upstream=%q} %d\n", state, so.name, map[bool]int{true: 1}[state == so.now])
			}
		}
		wantSeries(t, b.router.registry, text.String(), "llmsup_upstream_breaker_state")
	}
	want(backend.BreakerClosed, backend.BreakerClosed)
	for range backend.BreakAfter {
		if r := b.chat("two", false); r.status != http.StatusServiceUnavailable && r.status != http.StatusBadGateway {
			t.Fatalf("%+v", r)
		}
	}
	want(backend.BreakerOpen, backend.BreakerClosed)
}

func TestAccountingMetrics(t *testing.T) {
	b := newFixture(t, answers, answers)
	names := []string{
		"llmsup_budget_limit_usd", "llmsup_budget_spent_usd", "llmsup_budget_reserved_usd",
		"llmsup_ledger_condition", "llmsup_ledger_rows_lost_total", "llmsup_ledger_set_aside", "llmsup_ledger_rows_waiting",
	}
	wantSeries(t, b.router.registry, "", names...)
	store := ledger.Open(t.TempDir(), ledger.Options{Log: zerolog.Nop()})
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	money := budget.New(budget.Config{Limits: budget.Limits{Daily: new(5 * usd.Dollar)}, PerKey: map[string]budget.Limits{"crawler": {Monthly: new(usd.Dollar)}}}, nil)
	spent, _ := money.Reserve(time.Now(), "crawler", usd.Dollar)
	spent.Settle(usd.Dollar / 2)
	if _, exceeded := money.Reserve(time.Now(), "", usd.Dollar/4); exceeded != nil {
		t.Fatal(exceeded)
	}
	err := b.router.Reload(plan.Config{
		Table: b.router.routing.Load().Table, Locals: map[string]backend.Local{"qwen": b.state}, Bodies: request.Limits{Bytes: 1 << 20},
		Upstreams:  []backend.UpstreamConfig{{Name: "openrouter", BaseURL: b.cloud.URL, Key: cloudKey}},
		Accounting: accounting.Accounting{Ledger: store, Budget: money},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSeries(t, b.router.registry, `
llmsup_budget_limit_usd{key="",period="daily"} 5
llmsup_budget_limit_usd{key="crawler",period="monthly"} 1
llmsup_budget_reserved_usd{key="",period="daily"} 0.25
llmsup_budget_reserved_usd{key="crawler",period="monthly"} 0
llmsup_budget_spent_usd{key="",period="daily"} 0.5
llmsup_budget_spent_usd{key="crawler",period="monthly"} 0.5
llmsup_ledger_condition{condition="behind"} 0
llmsup_ledger_condition{condition="ok"} 1
llmsup_ledger_condition{condition="spilling"} 0
llmsup_ledger_rows_lost_total 0
llmsup_ledger_rows_waiting 0
llmsup_ledger_set_aside 0
`, names...)
}

// brokenCollector is a collector whose value cannot be read.
type brokenCollector struct{ desc *prometheus.Desc }

func (f brokenCollector) Describe(all chan<- *prometheus.Desc) { all <- f.desc }
func (f brokenCollector) Collect(all chan<- prometheus.Metric) {
	all <- prometheus.NewInvalidMetric(f.desc, errors.New("no such figure"))
}

// TestMetricsPage: which clients may read it, and that one broken value does not hide the
// others.
func TestMetricsPage(t *testing.T) {
	b := newFixture(t, answers, answers, withKeys)
	if err := b.router.RegisterMetrics(brokenCollector{prometheus.NewDesc("llmsup_x", "x", nil, nil)}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/metrics", "/metrics/", "//metrics", "/metrics?x", "/health/../metrics", "/%6detrics"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			if r := b.send(method, path, ""); r.status != http.StatusUnauthorized || strings.Contains(r.body, "llmsup_calls") {
				t.Errorf("%s %s without a key: %d", method, path, r.status)
			}
		}
	}
	r := b.send("GET", "/metrics", "", "Authorization", "Bearer "+fullKey)
	if r.status != http.StatusOK || !strings.Contains(r.body, "\nllmsup_calls_in_flight 0\n") || !strings.Contains(b.log.String(), "no such figure") {
		t.Errorf("%d %s\n%s", r.status, r.body, b.log)
	}
	open := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Access.CheckHost = true })
	for host, want := range map[string]int{"localhost": 200, "evil.example": 403} {
		if r := open.send("GET", "/metrics", "", "Host", host); r.status != want {
			t.Errorf("as %s: %d, want %d", host, r.status, want)
		}
	}
	if r := open.send("GET", "/metrics", "", "Origin", "https://evil.example"); r.status != 403 {
		t.Errorf("a page: %d", r.status)
	}
}

// TestCardinality: ten thousand calls with arbitrary names from clients and upstreams
// create a fixed number of series: as many as there are routes, backends and statuses.
func TestCardinality(t *testing.T) {
	const calls, most = 10_000, 420
	var asked atomic.Int64
	// An upstream that never gives the same status twice in a row, and says odd things.
	cloud := http.RoundTripper(roundTrip(func(r *http.Request) (*http.Response, error) {
		n := asked.Add(1)
		status := 200 + int(n)%800
		body := fmt.Sprintf(`{"model":"made-up-%d","choices":[{"message":{"content":"made-up-%d"},"finish_reason":"made-up-%d"}],"usage":{"prompt_tokens":%d,"completion_tokens":-%d,"cost":%d}}`, n, n, n, n, n, n)
		if status >= 400 { // in its own words, so that it is up
			body = fmt.Sprintf(`{"error":{"message":"made-up-%d","type":"made-up-%d","code":"made-up-%d"}}`, n, n, n)
		}
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}, "X-Llmsup-Backend": {fmt.Sprint("made-up-", n)}},
			Body: io.NopCloser(strings.NewReader(body)), Request: r,
		}, nil
	}))
	b := newFixture(t, answers, answers, withKeys, func(c *plan.Config, routes map[string]models.Route) {
		routes["team-*"] = models.Route{Primary: "openrouter", Timeout: time.Minute}
	})
	b.router.routing.Load().Backends["openrouter"].(*backend.Upstream).Transport().RegisterProtocol("http", cloud)

	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/messages", "/tokenize"}
	ask := func(n int) {
		name, key, path := fmt.Sprintf("made-up-%d", n), fullKey, paths[n%len(paths)]
		switch rand.IntN(8) {
		case 0:
			name = "vendor/" + name // */*
		case 1:
			name = name + "/" + name + "/" + name
		case 2:
			name = "team-" + name
		case 3:
			name = "local/" + name
		case 4:
			name += "\x00\xff\n\"{}" // as no model is called
		case 5:
			key = name
		case 6:
			path = "/" + name
		}
		body, _ := json.Marshal(map[string]any{"model": name, "messages": []string{}})
		req := httptest.NewRequest("POST", path, strings.NewReader(string(body)))
		req.Header.Set("Authorization", "Bearer "+key)
		for _, h := range []string{"X-Request-Id", "User-Agent", "Anthropic-Version", "X-Title"} {
			req.Header.Set(h, name)
		}
		if rand.IntN(50) == 0 {
			req.Header.Set("Origin", "https://"+name)
		}
		defer func() { // as net/http does for an answer that breaks: some of these statuses have no body
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		b.router.ServeHTTP(httptest.NewRecorder(), req)
	}
	count := func() (series int, page string) {
		page = b.send("GET", "/metrics", "", "X-Api-Key", fullKey).body
		for line := range strings.Lines(page) {
			if !strings.HasPrefix(line, "#") {
				series++
			}
		}
		return series, page
	}
	var next atomic.Int64
	half := func(until int64) {
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for n := next.Add(1); n <= until; n = next.Add(1) {
					ask(int(n))
				}
			})
		}
		workers.Wait()
		next.Store(until)
	}
	half(calls / 2)
	before, _ := count()
	half(calls)
	after, page := count()
	t.Logf("%d series after %d calls, %d after %d; the upstream was asked %d times", before, calls/2, after, calls, asked.Load())
	if after > most || asked.Load() < calls/8 {
		t.Errorf("%d series, want %d at most; the upstream was asked %d times", after, most, asked.Load())
	}
	if strings.Contains(page, "made-up") {
		t.Errorf("what was made up stands in\n%s", page)
	}
}

// roundTrip is an http.RoundTripper without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
