package serverreport

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/ondemand"
)

// newLoadSeconds returns the histogram of the loads of models.
func newLoadSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "llmsup_model_load_seconds",
		Help:    "Seconds that loads of a server's model took, from the process's start to its first answer to a test call.",
		Buckets: []float64{.25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600},
	}, []string{"server"})
}

func modelMetric(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_model_"+name, help, append([]string{"server"}, more...), nil)
}

var (
	modelLoads    = modelMetric("loads_total", "Loads of an on-demand server's model, by calls and operators.")
	modelUnloads  = modelMetric("unloads_total", "Unloads of an on-demand server's model, by cause.", "cause")
	modelNeed     = modelMetric("vram_need_bytes", "VRAM that the model is planned with: estimated or configured, and then measured.")
	modelMeasured = modelMetric("vram_measured_bytes", "The most VRAM that the processes of the server have held with this model.")
	modelWaiting  = modelMetric("calls_waiting", "Calls that wait for the model to be loaded, and not for a slot.")
	modelIdle     = modelMetric("download_idle_seconds", "Seconds since the last byte of the model arrived, while it is downloaded, whether that fails or not.")
	modelTooLarge = modelMetric("too_large", "1 if the model needs more VRAM than its GPUs have, so that it is never loaded; otherwise 0.")
)

func describeModels(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{modelLoads, modelUnloads, modelNeed, modelMeasured, modelWaiting, modelIdle, modelTooLarge} {
		all <- desc
	}
}

func collectModels(all chan<- prometheus.Metric, servers []Server) {
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	for _, s := range servers {
		f := s.Figures
		all <- prometheus.MustNewConstMetric(modelLoads, counter, float64(f.Loads), s.Name)
		for _, cause := range ondemand.Causes {
			all <- prometheus.MustNewConstMetric(modelUnloads, counter, float64(f.Unloads[cause]), s.Name, string(cause))
		}
		collectKnown(all, modelNeed, known(f.Need), s.Name)
		collectKnown(all, modelMeasured, known(f.Measured), s.Name)
		all <- prometheus.MustNewConstMetric(modelWaiting, gauge, float64(s.Load.ForModel), s.Name)
		if s.Download != nil {
			all <- prometheus.MustNewConstMetric(modelIdle, gauge, time.Since(s.Download.Advanced).Seconds(), s.Name)
		}
		never := f.Wait != nil && f.Wait.Never
		all <- prometheus.MustNewConstMetric(modelTooLarge, gauge, map[bool]float64{true: 1}[never], s.Name)
	}
}

// collectKnown exports a value unless it is unknown.
func collectKnown(all chan<- prometheus.Metric, desc *prometheus.Desc, value *uint64, server string) {
	if value != nil {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(*value), server)
	}
}
