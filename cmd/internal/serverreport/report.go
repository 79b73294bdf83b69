// Package serverreport reports the servers in the status, in the list of models and in the metrics:
// what their supervisors, the router and package ondemand know of them. cmd/internal/daemon owns a
// Reporter. It decides nothing.
package serverreport

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/supervisor"
)

// Server is a server, and what is known of it now. One that a reload has removed is reported until
// it has ended.
type Server struct {
	Name        string
	Process     *supervisor.Server
	Workload    *placement.Workload
	Settings    ondemand.Settings
	Demand      *ondemand.Demand
	Figures     ondemand.Figures
	Load        plan.Load
	Aggregation bool             // calls without a stream run as one
	Download    *downloads.State // of its model; nil = it is there
}

// Options are what a Reporter reports.
type Options struct {
	Version string // of llmsup
	Servers func() []Server
	Sample  func() *gpu.Sample
}

// Reporter reports the servers. It is a prometheus.Collector.
type Reporter struct {
	Options
	loadSeconds *prometheus.HistogramVec
}

// New returns a Reporter.
func New(o Options) *Reporter { return &Reporter{o, newLoadSeconds()} }

// ObserveLoad counts a load of a server's model.
func (r *Reporter) ObserveLoad(server string, took time.Duration) {
	r.loadSeconds.WithLabelValues(server).Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (r *Reporter) Describe(all chan<- *prometheus.Desc) {
	describeServers(all)
	describeModels(all)
	r.loadSeconds.Describe(all)
}

// Collect implements prometheus.Collector.
func (r *Reporter) Collect(all chan<- prometheus.Metric) {
	servers := r.Servers()
	collectServers(all, r.Version, servers)
	collectModels(all, servers)
	for _, s := range servers {
		r.loadSeconds.WithLabelValues(s.Name) // a rate needs the zeros
	}
	r.loadSeconds.Collect(all)
}
