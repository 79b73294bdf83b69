package router

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// metrics are the router's own metrics. The values of every label come from the
// configuration or from a fixed list, never from a client or an upstream. So the number of
// series is bounded by routes x backends. The series of a route or a backend that a reload
// has removed stay until llmsup exits.
type metrics struct {
	inflight prometheus.Gauge
	rejected *prometheus.CounterVec
	calls    *callMetrics
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "llmsup_calls_in_flight",
			Help: "Calls in flight.",
		}),
		rejected: counters("turned_away_total", "Requests that were rejected before they were routed, by the error's code.", "code"),
		calls:    newCallMetrics(r),
	}
	r.MustRegister(m.inflight, m.rejected)
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "llmsup_" + name, Help: help}, labels)
}

// metricsHandler serves all metrics. A metric that cannot be collected is left out, and
// logged.
func metricsHandler(r *prometheus.Registry, log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ErrorLog: metricsLog{log}})
}

// metricsLog logs promhttp's errors.
type metricsLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(message ...any) { l.log.Warn().Msg("metrics: " + fmt.Sprint(message...)) }
