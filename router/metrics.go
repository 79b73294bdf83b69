package router

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the router's own figures. Every label's values come from the
// configuration or from a fixed list: never from what a client sent.
type metrics struct {
	calls      *prometheus.CounterVec
	resumed    *prometheus.CounterVec
	inflight   prometheus.Gauge
	turnedAway *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llmsup_calls_total",
			Help: "Calls that ended, by route, backend that answered, HTTP status and the reason why the primary did not.",
		}, []string{"route", "backend", "status", "reason"}),
		resumed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llmsup_resumed_streams_total",
			Help: "Answers that broke and were continued elsewhere, by route, backend that went on, and how they ended: whole, cut, or left by their client.",
		}, []string{"route", "backend", "end"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "llmsup_calls_in_flight",
			Help: "Calls that are being worked on.",
		}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llmsup_turned_away_total",
			Help: "Requests that were refused at the door, by the error's code.",
		}, []string{"code"}),
	}
	r.MustRegister(m.calls, m.resumed, m.inflight, m.turnedAway)
	return m
}

// observe counts a call that has ended.
func (m *metrics) observe(rec *record, status int, _ time.Duration) {
	m.calls.WithLabelValues(rec.route, rec.backend, strconv.Itoa(status), string(rec.reason)).Inc()
	if rec.resumedBy != "" {
		m.resumed.WithLabelValues(rec.route, rec.resumedBy, rec.end()).Inc()
	}
}
