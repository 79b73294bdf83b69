package record

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/collect"
)

// callSeconds are the histograms' buckets: from a cached answer to the two minutes of a
// fallback, with the 60 s of a route's timeout as a bound.
var callSeconds = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120}

// Metrics are the metrics of calls that have ended. The values of every label come from the
// configuration or from a fixed list, never from a client or an upstream, so the number of series
// is bounded by routes x backends. The series of a route or a backend that a reload has removed
// stay until llmsup exits.
type Metrics struct {
	ended, rejected, resumed, truncated *prometheus.CounterVec
	tokens, cost, saved, unpriced       *prometheus.CounterVec
	firstAnswer, duration               *prometheus.HistogramVec

	// Series that were used before: a lookup by labels costs more than everything else
	// that Observe does. Their number is bounded by that of the series.
	mu            sync.RWMutex
	calls         map[callKind]*callSeries
	routeBackends map[routeBackend]*routeBackendSeries
}

// callKind is what calls that are counted in the same series have in common.
type callKind struct {
	routeBackend
	status int // as returned by limitStatus
	reason backend.Reason
}

// routeBackend is the route of calls, and the backend that answered them; "" = none did.
type routeBackend struct{ route, backend string }

type callSeries struct {
	*routeBackendSeries
	ended prometheus.Counter
}

// routeBackendSeries are the series of a route and a backend. Without a backend there is
// only duration.
type routeBackendSeries struct {
	routeBackend
	duration                             prometheus.Observer
	firstAnswer                          prometheus.Observer
	prompt, cached, completion           prometheus.Counter
	cost, saved                          prometheus.Counter
	truncated, unknownCost, unknownSaved prometheus.Counter
}

// NewMetrics returns the metrics, and adds them to a registry.
func NewMetrics(r prometheus.Registerer) *Metrics {
	seconds := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "llmsup_" + name, Help: help, Buckets: callSeconds}, []string{"route", "backend"})
	}
	m := &Metrics{
		ended: counters("calls_total",
			"Calls that ended, by route, answering backend, HTTP status and the reason why the primary did not answer.",
			"route", "backend", "status", "reason"),
		rejected: counters("refused_calls_total",
			"Calls that llmsup answered with an error of its own, by the error's code.",
			"code"),
		resumed: counters("resumed_streams_total",
			"Broken answers that another backend continued, by route, that backend, and end: whole, cut, or left (the client closed the connection, or an operator cancelled the call).",
			"route", "backend", "end"),
		truncated: counters("cut_answers_total",
			"Answers that broke after they had begun and were not continued: the client received an error event or an aborted connection.",
			"route", "backend"),
		tokens: counters("tokens_total",
			"Tokens of calls as reported by the backends, by kind: prompt (not from a cache), cached (prompt tokens from a cache), completion.",
			"route", "backend", "kind"),
		cost: counters("cost_usd_total",
			"USD that calls cost, where known. The ledger has the exact amounts.",
			"route", "backend"),
		saved: counters("saved_usd_total",
			"USD that the routes' fallbacks would have charged for the answers of local servers, where known.",
			"route", "backend"),
		unpriced: counters("unpriced_calls_total",
			"Calls of unknown cost or, for local ones, unknown saving, by that amount. The sum of the amount does not include them.",
			"route", "backend", "amount"),
		firstAnswer: seconds("call_first_answer_seconds", "Seconds from a call's arrival to its first answer, waiting and failed attempts included; for non-streaming calls to the whole answer."),
		duration:    seconds("call_duration_seconds", "Seconds from a call's arrival to its end, including rejected calls."),

		calls: map[callKind]*callSeries{}, routeBackends: map[routeBackend]*routeBackendSeries{},
	}
	r.MustRegister(m.ended, m.rejected, m.resumed, m.truncated, m.tokens, m.cost, m.saved, m.unpriced, m.firstAnswer, m.duration)
	return m
}

// Observe counts a call that has ended.
func (m *Metrics) Observe(rec *Record, duration time.Duration) {
	status := rec.finalStatus()
	s := m.seriesOf(callKind{routeBackend{rec.Route, rec.Backend}, limitStatus(status), rec.Reason})
	s.ended.Inc()
	s.duration.Observe(duration.Seconds())
	if rec.Code != "" {
		m.rejected.WithLabelValues(rec.Code).Inc()
	}
	if rec.Resumed.By != "" {
		m.resumed.WithLabelValues(rec.Route, rec.Resumed.By, rec.outcome()).Inc()
	}
	if s.firstAnswer != nil {
		s.answered(rec, status)
		return
	}
	cost := rec.Total.Cost()
	if cost != nil && *cost > 0 { // a backend that failed may have billed
		m.cost.WithLabelValues(rec.Route, rec.Backend).Add(cost.Float())
	}
	if rec.Total.Paid && cost == nil {
		m.unpriced.WithLabelValues(rec.Route, rec.Backend, "cost").Inc()
	}
}

// answered counts what is known of an answer, and which of its amounts are unknown.
func (s *routeBackendSeries) answered(rec *Record, status int) {
	if rec.FirstAnswer > 0 {
		s.firstAnswer.Observe(rec.FirstAnswer.Seconds())
	}
	if rec.truncated() != nil {
		s.truncated.Inc()
	}
	u := rec.Usage
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
	switch cost := rec.Total.Cost(); {
	case cost != nil && *cost > 0:
		s.cost.Add(cost.Float())
	case cost == nil && rec.Total.Paid:
		s.unknownCost.Inc()
	}
	switch {
	case rec.savings != nil && *rec.savings > 0:
		s.saved.Add(rec.savings.Float())
	case rec.savings == nil && rec.Local && status < http.StatusBadRequest:
		s.unknownSaved.Inc()
	}
}

// addTokens counts tokens that a backend reported. A backend may report any number, and
// Counter.Add panics for a negative one.
func addTokens(c prometheus.Counter, n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

func (m *Metrics) seriesOf(o callKind) *callSeries {
	m.mu.RLock()
	s := m.calls[o]
	m.mu.RUnlock()
	if s == nil {
		s = m.add(o)
	}
	return s
}

func (m *Metrics) add(o callKind) *callSeries {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.calls[o]; s != nil {
		return s
	}
	w := m.routeBackends[o.routeBackend]
	if w == nil {
		w = m.newRouteBackendSeries(o.routeBackend)
		m.routeBackends[o.routeBackend] = w
	}
	s := &callSeries{w, m.ended.WithLabelValues(collect.LabelValue(o.route), collect.LabelValue(o.backend), statusLabel(o.status), string(o.reason))}
	m.calls[o] = s
	return s
}

func (m *Metrics) newRouteBackendSeries(w routeBackend) *routeBackendSeries {
	route, backend := collect.LabelValue(w.route), collect.LabelValue(w.backend)
	s := &routeBackendSeries{routeBackend: w, duration: m.duration.WithLabelValues(route, backend)}
	if backend == "" {
		return s
	}
	s.firstAnswer = m.firstAnswer.WithLabelValues(route, backend)
	s.prompt = m.tokens.WithLabelValues(route, backend, "prompt")
	s.cached = m.tokens.WithLabelValues(route, backend, "cached")
	s.completion = m.tokens.WithLabelValues(route, backend, "completion")
	s.cost = m.cost.WithLabelValues(route, backend)
	s.saved = m.saved.WithLabelValues(route, backend)
	s.unknownCost = m.unpriced.WithLabelValues(route, backend, "cost")
	s.unknownSaved = m.unpriced.WithLabelValues(route, backend, "saved")
	s.truncated = m.truncated.WithLabelValues(route, backend)
	return s
}

// unnamedStatuses are statuses in use that net/http has no name for: nginx's 499 for a
// client that closed the connection, Cloudflare's, and Anthropic's 529 for overload.
var unnamedStatuses = map[int]bool{StatusClientClosedRequest: true, 520: true, 521: true, 522: true, 523: true, 524: true, 525: true, 526: true, 527: true, 529: true, 530: true}

// limitStatus bounds the number of series, whatever upstreams send: a status in use is
// returned unchanged, others become their class, 2 to 5, or 0.
func limitStatus(status int) int {
	switch class := status / 100; {
	case http.StatusText(status) != "" || unnamedStatuses[status]:
		return status
	case 2 <= class && class <= 5:
		return class
	}
	return 0
}

// statusLabel returns the label of a limited status: "200", "4xx" or "other".
func statusLabel(bound int) string {
	switch {
	case bound == 0:
		return "other"
	case bound < 10:
		return strconv.Itoa(bound) + "xx"
	}
	return strconv.Itoa(bound)
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "llmsup_" + name, Help: help}, labels)
}
