package daemon

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/llmsup/llmsup/cmd/internal/gpureport"
	"github.com/llmsup/llmsup/supervisor"
)

// registerMetrics adds the metrics of the servers, the GPUs and the process to those of the
// router.
func (d *Daemon) registerMetrics() error {
	for _, c := range []prometheus.Collector{
		d.gpus, serverMetrics{d}, d.models, d.boxes, d.accounting.FleetMetrics(d.boxes.View), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := d.router.RegisterMetrics(c); err != nil {
			return err
		}
	}
	return nil
}

// serverMetrics exports the servers to Prometheus. A server that a reload has removed is
// included until it has ended.
type serverMetrics struct{ d *Daemon }

func serverMetric(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_server_"+name, help, append([]string{"server"}, more...), nil)
}

var (
	serverState    = serverMetric("state", "1 for the state that the server is in, 0 for all others.", "state")
	serverRestarts = serverMetric("restarts_total", "Starts of llama-server after the first one, by the class of the end before.", "class")
	serverLoad     = serverMetric("load_seconds", "Duration of the last load, from the process's start to its first answer to a test call.")
	serverSlots    = serverMetric("slots", "Concurrent calls of the server.")
	serverCalls    = serverMetric("calls_in_flight", "Running calls, without those that wait for a slot.")
	serverQueued   = serverMetric("calls_queued", "Calls that wait for a slot.")
	serverNeed     = serverMetric("vram_need_bytes", "Estimated VRAM need of the model.")
	serverHeld     = serverMetric("vram_held_bytes", "VRAM that the server's process holds.")

	buildInfo = prometheus.NewDesc("llmsup_build_info", "1, with the versions of llmsup and of Go.", []string{"version", "goversion"}, nil)
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
		now, traffic := s.server.Snapshot(), m.d.router.Load(s.name)
		for _, state := range supervisor.States {
			gauge(serverState, map[bool]float64{true: 1}[state == now.State], s.name, state.String())
		}
		for _, class := range supervisor.Classes { // also at 0: a rate needs the earlier value
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
		if v := gpureport.VRAM(s.workload, now.PID); v != nil {
			gauge(serverNeed, float64(v.NeedBytes), s.name)
			if v.HeldBytes != nil {
				gauge(serverHeld, float64(*v.HeldBytes), s.name)
			}
		}
	}
}
