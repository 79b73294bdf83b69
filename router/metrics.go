package router

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// metrics are the router's own figures. Every label's values come from the
// configuration or from a fixed list: never from what a client or an upstream
// sent. So the number of series is bounded by routes x backends, whatever happens;
// those of a route or a backend that a reload has taken out stay until llmsup ends.
type metrics struct {
	inflight   prometheus.Gauge
	turnedAway *prometheus.CounterVec
	calls      *callMetrics
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "llmsup_calls_in_flight",
			Help: "Calls that are being worked on.",
		}),
		turnedAway: counters("turned_away_total", "Requests that were rejected before they were routed, by the error's code.", "code"),
		calls:      newCallMetrics(r),
	}
	r.MustRegister(m.inflight, m.turnedAway)
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "llmsup_" + name, Help: help}, labels)
}

// metricsHandler shows all figures. One that can't be collected is told in the log,
// and costs the others nothing.
func metricsHandler(r *prometheus.Registry, log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ErrorLog: metricsLog{log}})
}

// metricsLog takes promhttp's errors.
type metricsLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(words ...any) { l.log.Warn().Msg("metrics: " + fmt.Sprint(words...)) }
