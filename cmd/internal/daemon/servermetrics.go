package daemon

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/llmsup/llmsup/supervisor"
)

// registerMetrics adds to the router's figures those of all others, and the
// process's own.
func (d *Daemon) registerMetrics() error {
	for _, c := range []prometheus.Collector{
		gpuMetrics{d}, serverMetrics{d}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := d.router.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// serverMetrics shows the servers to Prometheus, as status shows them to people. One
// that is taken out of the configuration is there until it has ended.
type serverMetrics struct{ d *Daemon }

func serverMetric(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_server_"+name, help, append([]string{"server"}, more...), nil)
}

var (
	serverState    = serverMetric("state", "1 for the state that the server is in, 0 for all others.", "state")
	serverRestarts = serverMetric("restarts_total", "Starts of llama-server after the first one, by the class of the end before.", "class")
	serverLoad     = serverMetric("load_seconds", "What the last load took, from the process's start to its first completion.")
	serverSlots    = serverMetric("slots", "Calls that the server works on at once.")
	serverCalls    = serverMetric("calls_in_flight", "Calls that the server has, those that wait for a slot not included.")
	serverQueued   = serverMetric("calls_queued", "Calls that wait for a slot.")
	serverNeed     = serverMetric("vram_need_bytes", "VRAM that the model needs, as it was estimated before the start.")
	serverHeld     = serverMetric("vram_held_bytes", "VRAM that the server's process holds.")

	buildInfo = prometheus.NewDesc("llmsup_build_info", "1, with the version of llmsup and of the Go that built it.", []string{"version", "goversion"}, nil)
)

// Describe implements prometheus.Collector.
func (m serverMetrics) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		serverState, serverRestarts, serverLoad, serverSlots, serverCalls, serverQueued, serverNeed, serverHeld, buildInfo,
	} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (m serverMetrics) Collect(all chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(buildInfo, 1, m.d.opts.Version, runtime.Version())
	for _, s := range m.d.servers() {
		now, traffic := s.server.Snapshot(), m.d.router.Traffic(s.name)
		for _, state := range supervisor.States {
			gauge(serverState, map[bool]float64{true: 1}[state == now.State], s.name, state.String())
		}
		for _, class := range supervisor.Classes { // at 0 too: a rate needs what was before
			all <- prometheus.MustNewConstMetric(serverRestarts, prometheus.CounterValue, float64(now.RestartsBy[class]), s.name, string(class))
		}
		gauge(serverCalls, float64(traffic.Calls), s.name)
		gauge(serverQueued, float64(traffic.Queued), s.name)
		if now.LoadDuration > 0 {
			gauge(serverLoad, now.LoadDuration.Seconds(), s.name)
		}
		if now.Slots > 0 {
			gauge(serverSlots, float64(now.Slots), s.name)
		}
		if v := vramStatus(s.workload, now.PID); v != nil {
			gauge(serverNeed, float64(v.NeedBytes), s.name)
			if v.HeldBytes != nil {
				gauge(serverHeld, float64(*v.HeldBytes), s.name)
			}
		}
	}
}
