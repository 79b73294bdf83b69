package serverreport

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/gpureport"
	"github.com/llmsup/llmsup/supervisor"
)

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

func describeServers(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		serverState, serverRestarts, serverLoad, serverSlots, serverCalls, serverQueued, serverNeed, serverHeld, buildInfo,
	} {
		all <- desc
	}
}

func collectServers(all chan<- prometheus.Metric, version string, servers []Server) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(buildInfo, 1, version, runtime.Version())
	for _, s := range servers {
		now := s.Process.Snapshot()
		for _, state := range supervisor.States {
			gauge(serverState, map[bool]float64{true: 1}[state == now.State], s.Name, state.String())
		}
		for _, class := range supervisor.Classes { // also at 0: a rate needs the earlier value
			all <- prometheus.MustNewConstMetric(serverRestarts, prometheus.CounterValue, float64(now.RestartsBy[class]), s.Name, string(class))
		}
		gauge(serverCalls, float64(s.Load.Calls), s.Name)
		gauge(serverQueued, float64(s.Load.Queued), s.Name)
		if now.LoadDuration > 0 {
			gauge(serverLoad, now.LoadDuration.Seconds(), s.Name)
		}
		if now.Slots > 0 {
			gauge(serverSlots, float64(now.Slots), s.Name)
		}
		if v := gpureport.VRAM(s.Workload, now.PID); v != nil {
			gauge(serverNeed, float64(v.NeedBytes), s.Name)
			if v.HeldBytes != nil {
				gauge(serverHeld, float64(*v.HeldBytes), s.Name)
			}
		}
	}
}
