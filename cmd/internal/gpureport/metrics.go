package gpureport

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/placement"
)

var gpuLabels = []string{"gpu", "uuid"}

func gpuMetric(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_gpu_"+name, help, append(append([]string{}, gpuLabels...), more...), nil)
}

var (
	gpuMemoryTotal = gpuMetric("memory_total_bytes", "VRAM of the GPU.")
	gpuMemoryUsed  = gpuMetric("memory_used_bytes", "VRAM in use by all processes.")
	gpuMemoryFree  = gpuMetric("memory_free_bytes", "VRAM that is free.")
	gpuMemoryPart  = gpuMetric("memory_part_bytes", "VRAM by what holds it, in kind: a server, foreign processes, unlisted (no process that the driver lists with its memory) or free. The parts add up to the total.", "kind", "server")
	gpuUtilization = gpuMetric("utilization_ratio", "Share of the time in which the GPU computed.")
	gpuTemperature = gpuMetric("temperature_celsius", "Temperature of the GPU.")
	gpuPower       = gpuMetric("power_watts", "Power that the GPU draws.")
	gpuECC         = gpuMetric("ecc_uncorrected_total", "Memory errors that could not be corrected, since the driver was loaded.")
	gpuReplays     = gpuMetric("pcie_replays_total", "PCIe packets that were sent again.")
	gpuHealthState = gpuMetric("health", "1 for the present health of the GPU, 0 for the others of ok, degraded, lost and unknown.", "health")
	gpuInfo        = gpuMetric("info", "1, with the name of the GPU.", "name")
)

// Describe implements prometheus.Collector.
func (r *Reporter) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		gpuMemoryTotal, gpuMemoryUsed, gpuMemoryFree, gpuMemoryPart, gpuUtilization, gpuTemperature, gpuPower, gpuECC, gpuReplays, gpuHealthState, gpuInfo,
	} {
		all <- desc
	}
}

// Collect implements prometheus.Collector. Values that the driver does not report are left out,
// not 0.
func (r *Reporter) Collect(all chan<- prometheus.Metric) {
	s, owners := r.o.Monitor.Sample(), r.owners()
	for _, g := range s.GPUs {
		labels := []string{strconv.Itoa(g.Index), label(g.UUID)}
		gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
		collect(all, gpuMemoryTotal, gauge, g.MemoryTotal, 1, labels)
		collect(all, gpuMemoryUsed, gauge, g.MemoryUsed, 1, labels)
		collect(all, gpuMemoryFree, gauge, g.MemoryFree, 1, labels)
		for _, part := range placement.Parts(g, owners) {
			all <- prometheus.MustNewConstMetric(gpuMemoryPart, gauge, float64(part.Bytes), append(labels, string(part.Holder), part.Server)...)
		}
		collect(all, gpuUtilization, gauge, g.Utilization, 0.01, labels)
		collect(all, gpuTemperature, gauge, g.Temperature, 1, labels)
		collect(all, gpuPower, gauge, g.Power, 1, labels)
		collect(all, gpuECC, counter, g.ECCUncorrected, 1, labels)
		collect(all, gpuReplays, counter, g.PCIeReplays, 1, labels)
		now := r.health(s, g).health
		for _, health := range []string{ok, degraded, lost, unknown} {
			all <- prometheus.MustNewConstMetric(gpuHealthState, gauge, map[bool]float64{true: 1}[health == now], append(labels, health)...)
		}
		all <- prometheus.MustNewConstMetric(gpuInfo, gauge, 1, append(labels, label(g.Name))...)
	}
}

func collect[N int | uint64 | float64](all chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, value *N, unit float64, labels []string) {
	if value != nil {
		all <- prometheus.MustNewConstMetric(d, t, float64(*value)*unit, labels...)
	}
}

// label returns a text of the driver as a label's value, which has to be UTF-8.
func label(text string) string { return strings.ToValidUTF8(text, "?") }
