package router

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/backend"
)

// backendMetrics shows how the upstreams stand that are in the routing now. The
// daemon shows the local servers: it knows more of them.
type backendMetrics struct{ rt *Router }

var (
	upstreamInflight = prometheus.NewDesc("llmsup_upstream_calls_in_flight", "Calls that an upstream works on.", []string{"upstream"}, nil)
	upstreamBreaker  = prometheus.NewDesc("llmsup_upstream_breaker_state",
		"1 for the state that the upstream's breaker is in: closed (it gets calls), open (it gets none) or half_open (one call tries it).",
		[]string{"upstream", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (m backendMetrics) Describe(all chan<- *prometheus.Desc) {
	all <- upstreamInflight
	all <- upstreamBreaker
}

// Collect implements prometheus.Collector. Two base URLs on one host have one name,
// and are one upstream here: with the worse of their states.
func (m backendMetrics) Collect(all chan<- prometheus.Metric) {
	type standing struct {
		inflight int64
		state    backend.BreakerState
	}
	now := time.Now()
	found := map[string]standing{}
	for _, b := range m.rt.routing.Load().Backends {
		u, ok := b.(*backend.Upstream)
		if !ok {
			continue
		}
		name := u.Info().Name
		so := found[name]
		found[name] = standing{so.inflight + u.Inflight(), max(so.state, u.BreakerState(now))}
	}
	for name, s := range found {
		name = labelled(name)
		all <- prometheus.MustNewConstMetric(upstreamInflight, prometheus.GaugeValue, float64(s.inflight), name)
		collectStates(all, upstreamBreaker, backend.BreakerStates, s.state, name)
	}
}

// collectStates collects a series for each state that something may be in: 1 for
// the one it is in, 0 for the others.
func collectStates[S interface {
	~int
	String() string
}](all chan<- prometheus.Metric, desc *prometheus.Desc, states []S, now S, labels ...string) {
	for _, state := range states {
		value := 0.0
		if state == now {
			value = 1
		}
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append(slices.Clip(labels), state.String())...)
	}
}
