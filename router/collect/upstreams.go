package collect

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/backend"
)

// upstreams collects the metrics of the present routing's upstreams. The metrics of
// local servers are the daemon's.
type upstreams struct{ routing Routing }

var (
	upstreamInflight = prometheus.NewDesc("llmsup_upstream_calls_in_flight", "Calls in flight at an upstream.", []string{"upstream"}, nil)
	upstreamBreaker  = prometheus.NewDesc("llmsup_upstream_breaker_state",
		"1 for the present state of the upstream's circuit breaker: closed (it gets calls), open (it gets none) or half_open (one call tries it).",
		[]string{"upstream", "state"}, nil)
)

// Describe implements prometheus.Collector.
func (m upstreams) Describe(all chan<- *prometheus.Desc) {
	all <- upstreamInflight
	all <- upstreamBreaker
}

// Collect implements prometheus.Collector. Two base URLs on one host have the same name,
// and are one upstream here, in the worse of their states.
func (m upstreams) Collect(all chan<- prometheus.Metric) {
	type status struct {
		inflight int64
		state    backend.BreakerState
	}
	now := time.Now()
	found := map[string]status{}
	for _, b := range m.routing().Backends {
		u, ok := b.(*backend.Upstream)
		if !ok {
			continue
		}
		name := u.Info().Name
		other := found[name]
		found[name] = status{other.inflight + u.Inflight(), max(other.state, u.BreakerState(now))}
	}
	for name, s := range found {
		name = LabelValue(name)
		all <- prometheus.MustNewConstMetric(upstreamInflight, prometheus.GaugeValue, float64(s.inflight), name)
		collectStates(all, upstreamBreaker, backend.BreakerStates, s.state, name)
	}
}

// collectStates collects a series for each state: 1 for the present one, 0 for the others.
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
