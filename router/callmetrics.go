package router

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/backend"
)

// callSeconds are the histograms' buckets: from an answer that was cached to the
// two minutes of a fallback, with the 60 s of a route's timeout as a bound.
var callSeconds = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120}

// callMetrics are the figures of calls that have ended.
type callMetrics struct {
	ended, refused, resumed, cut  *prometheus.CounterVec
	tokens, cost, saved, unpriced *prometheus.CounterVec
	first, took                   *prometheus.HistogramVec

	// Series that were used before: looking them up by their labels costs more than
	// all the rest. Bounded as they are.
	mu    sync.RWMutex
	kinds map[callKind]*kindSeries
	ways  map[way]*routeBackendSeries
}

// callKind is what calls have in common that are counted together.
type callKind struct {
	way
	status int // as boundStatus has it
	reason backend.Reason
}

// way is where calls came from, and who answered them; "" = nobody.
type way struct{ route, backend string }

type kindSeries struct {
	*routeBackendSeries
	ended prometheus.Counter
}

// routeBackendSeries are the series of a way. Where nobody answered there is but took.
type routeBackendSeries struct {
	way
	took                           prometheus.Observer
	first                          prometheus.Observer
	prompt, cached, completion     prometheus.Counter
	cost, saved                    prometheus.Counter
	cut, unknownCost, unknownSaved prometheus.Counter
}

func newCallMetrics(r prometheus.Registerer) *callMetrics {
	seconds := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "llmsup_" + name, Help: help, Buckets: callSeconds}, []string{"route", "backend"})
	}
	m := &callMetrics{
		ended: counters("calls_total",
			"Calls that ended, by route, backend that answered, HTTP status and the reason why the primary did not.",
			"route", "backend", "status", "reason"),
		refused: counters("refused_calls_total",
			"Calls that llmsup answered with an error of its own, by the error's code.",
			"code"),
		resumed: counters("resumed_streams_total",
			"Answers that broke and were continued elsewhere, by route, backend that went on, and how they ended: whole, cut, or left by their client.",
			"route", "backend", "end"),
		cut: counters("cut_answers_total",
			"Answers that broke after they had begun, for good: their clients were told by an error event or a connection that broke.",
			"route", "backend"),
		tokens: counters("tokens_total",
			"Tokens of calls, as far as backends told, by kind: prompt (read anew), cached (of a prompt, from a cache), completion.",
			"route", "backend", "kind"),
		cost: counters("cost_usd_total",
			"USD that calls cost, where it is known. The ledger has it to the last digit.",
			"route", "backend"),
		saved: counters("saved_usd_total",
			"USD that the routes' fallbacks would have taken for what local servers answered, where it is known.",
			"route", "backend"),
		unpriced: counters("unpriced_calls_total",
			"Calls whose cost, or for local ones whose saving, nobody knows, and which are in no sum of that amount.",
			"route", "backend", "amount"),
		first: seconds("call_first_answer_seconds", "Seconds from a call's arrival to its first answer, waiting and failed attempts included; to the whole one without a stream."),
		took:  seconds("call_duration_seconds", "Seconds from a call's arrival to its end, refused ones included."),

		kinds: map[callKind]*kindSeries{}, ways: map[way]*routeBackendSeries{},
	}
	r.MustRegister(m.ended, m.refused, m.resumed, m.cut, m.tokens, m.cost, m.saved, m.unpriced, m.first, m.took)
	return m
}

// observe counts a call that has ended.
func (m *metrics) observe(rec *record, status int, took time.Duration) {
	c := m.calls
	s := c.seriesOf(callKind{way{rec.route, rec.backend}, boundStatus(status), rec.reason})
	s.ended.Inc()
	s.took.Observe(took.Seconds())
	if rec.code != "" {
		c.refused.WithLabelValues(rec.code).Inc()
	}
	if rec.resumedBy != "" {
		c.resumed.WithLabelValues(rec.route, rec.resumedBy, rec.end()).Inc()
	}
	if s.first == nil {
		cost := rec.total.Cost()
		if cost != nil && *cost > 0 { // a backend that failed may have billed
			c.cost.WithLabelValues(rec.route, rec.backend).Add(cost.Float())
		}
		if rec.total.Paid && cost == nil {
			c.unpriced.WithLabelValues(rec.route, rec.backend, "cost").Inc()
		}
		return
	}
	s.answered(rec, status)
}

// answered counts what is known of an answer. Sums and what is missing in them are
// the ledger's.
func (s *routeBackendSeries) answered(rec *record, status int) {
	if rec.firstAnswer > 0 {
		s.first.Observe(rec.firstAnswer.Seconds())
	}
	if rec.truncated != nil {
		s.cut.Inc()
	}
	u := rec.usage
	var cached int64
	if u.Cached != nil {
		cached = *u.Cached
		addTokens(s.cached, cached)
	}
	if u.Prompt != nil {
		addTokens(s.prompt, *u.Prompt-max(cached, 0))
	}
	if u.Completion != nil {
		addTokens(s.completion, *u.Completion)
	}
	switch cost := rec.total.Cost(); {
	case cost != nil && *cost > 0:
		s.cost.Add(cost.Float())
	case cost == nil && rec.total.Paid:
		s.unknownCost.Inc()
	}
	switch {
	case rec.saved != nil && *rec.saved > 0:
		s.saved.Add(rec.saved.Float())
	case rec.saved == nil && rec.local && status < http.StatusBadRequest:
		s.unknownSaved.Inc()
	}
}

// addTokens counts what a backend said. It may say anything, and a counter that is
// given less than nothing panics.
func addTokens(c prometheus.Counter, n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

func (m *callMetrics) seriesOf(o callKind) *kindSeries {
	m.mu.RLock()
	s := m.kinds[o]
	m.mu.RUnlock()
	if s == nil {
		s = m.add(o)
	}
	return s
}

func (m *callMetrics) add(o callKind) *kindSeries {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.kinds[o]; s != nil {
		return s
	}
	w := m.ways[o.way]
	if w == nil {
		w = m.routeBackendSeries(o.way)
		m.ways[o.way] = w
	}
	s := &kindSeries{w, m.ended.WithLabelValues(labelled(o.route), labelled(o.backend), statusWord(o.status), string(o.reason))}
	m.kinds[o] = s
	return s
}

func (m *callMetrics) routeBackendSeries(w way) *routeBackendSeries {
	route, backend := labelled(w.route), labelled(w.backend)
	s := &routeBackendSeries{way: w, took: m.took.WithLabelValues(route, backend)}
	if backend == "" {
		return s
	}
	s.first = m.first.WithLabelValues(route, backend)
	s.prompt = m.tokens.WithLabelValues(route, backend, "prompt")
	s.cached = m.tokens.WithLabelValues(route, backend, "cached")
	s.completion = m.tokens.WithLabelValues(route, backend, "completion")
	s.cost = m.cost.WithLabelValues(route, backend)
	s.saved = m.saved.WithLabelValues(route, backend)
	s.unknownCost = m.unpriced.WithLabelValues(route, backend, "cost")
	s.unknownSaved = m.unpriced.WithLabelValues(route, backend, "saved")
	s.cut = m.cut.WithLabelValues(route, backend)
	return s
}

// labelled makes a name fit for a label, which has to be UTF-8 (client_golang
// panics else): a model's file may be called anything.
func labelled(name string) string { return strings.ToValidUTF8(name, "�") }

// beyondNames are statuses that net/http has no name for, and that are in use:
// nginx's word for a client that left, Cloudflare's, and Anthropic's for overload.
var beyondNames = map[int]bool{statusClientClosedRequest: true, 520: true, 521: true, 522: true, 523: true, 524: true, 525: true, 526: true, 527: true, 529: true, 530: true}

// boundStatus keeps upstreams from making up series: a status that is in use stays
// what it is, others become their class, 2 to 5, or 0.
func boundStatus(status int) int {
	switch class := status / 100; {
	case http.StatusText(status) != "" || beyondNames[status]:
		return status
	case 2 <= class && class <= 5:
		return class
	}
	return 0
}

// statusWord is the label of a bound status: "200", "4xx" or "other".
func statusWord(bound int) string {
	switch {
	case bound == 0:
		return "other"
	case bound < 10:
		return strconv.Itoa(bound) + "xx"
	}
	return strconv.Itoa(bound)
}
