package router

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/collect"
	"github.com/llmsup/llmsup/router/record"
)

// metrics are the router's own metrics. As of a record's, their labels have values from the
// configuration or from a fixed list.
type metrics struct {
	inflight  prometheus.Gauge
	rejected  *prometheus.CounterVec
	fromBoxes prometheus.Counter
	modelWait *prometheus.HistogramVec
	calls     *record.Metrics
}

// modelWaitSeconds are the buckets of waits: from a small model in the page cache to ten
// minutes, the longest bound of a drain before an unload.
var modelWaitSeconds = []float64{.25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "llmsup_calls_in_flight",
			Help: "Calls in flight.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llmsup_turned_away_total",
			Help: "Requests that were rejected before they were routed, by the error's code.",
		}, []string{"code"}),
		fromBoxes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "llmsup_calls_from_boxes_total",
			Help: "Calls that other boxes of the fleet have sent to this one. Only the box that the client called counts them as calls.",
		}),
		modelWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "llmsup_model_wait_seconds",
			Help:    "Seconds that calls waited for a server that accepted none, as while it loads its model, until it did or the call moved on.",
			Buckets: modelWaitSeconds,
		}, []string{"server"}),
		calls: record.NewMetrics(r),
	}
	r.MustRegister(m.inflight, m.rejected, m.fromBoxes, m.modelWait)
	return m
}

// addServers adds the series of local servers: a rate needs their zeros.
func (m *metrics) addServers(backends map[string]backend.Backend) {
	for name, b := range backends {
		if b.Info().Local {
			m.modelWait.WithLabelValues(collect.LabelValue(name))
		}
	}
}

func (m *metrics) removeServer(name string) { m.modelWait.DeleteLabelValues(collect.LabelValue(name)) }

// metricsHandler serves all metrics. A metric that cannot be collected is left out, and
// logged.
func metricsHandler(r *prometheus.Registry, log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ErrorLog: metricsLog{log}})
}

// metricsLog logs promhttp's errors.
type metricsLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(message ...any) { l.log.Warn().Msg("metrics: " + fmt.Sprint(message...)) }
