package ownbox

import "github.com/prometheus/client_golang/prometheus"

var (
	joined        = prometheus.NewDesc("llmsup_fleet_joined", "1 if the box is in its fleet, 0 if it is alone. Without fleet in llmsup.yaml there is no such metric.", []string{"box"}, nil)
	others        = prometheus.NewDesc("llmsup_fleet_other_boxes", "Other boxes of the fleet that this one knows of.", nil, nil)
	ignored       = prometheus.NewDesc("llmsup_fleet_ignored_announcements_total", "Announcements that were ignored: they were not authenticated with the fleet's key, or invalid.", nil, nil)
	configVersion = prometheus.NewDesc("llmsup_fleet_config_version", "Version of the fleet's configuration that this box runs; 0 = none.", nil, nil)
	configRefused = prometheus.NewDesc("llmsup_fleet_config_refused", "1 if this box refuses a newer version of the fleet's configuration, and keeps what it has.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *Membership) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{joined, others, ignored, configVersion, configRefused} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *Membership) Collect(all chan<- prometheus.Metric) {
	present := m.present.Load()
	if present == nil {
		return
	}
	v := present.View()
	all <- prometheus.MustNewConstMetric(joined, prometheus.GaugeValue, map[bool]float64{true: 1}[v.Joined], v.Name)
	all <- prometheus.MustNewConstMetric(others, prometheus.GaugeValue, float64(len(v.Boxes)))
	all <- prometheus.MustNewConstMetric(ignored, prometheus.CounterValue, float64(v.Ignored))
	if m.o.Config == nil {
		return
	}
	c := m.o.Config.Status()
	all <- prometheus.MustNewConstMetric(configVersion, prometheus.GaugeValue, float64(c.Version))
	all <- prometheus.MustNewConstMetric(configRefused, prometheus.GaugeValue, map[bool]float64{true: 1}[c.Refused > 0])
}
