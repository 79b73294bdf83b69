package accounting

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/usd"
)

// fleetMetrics exports the limits that the boxes of the fleet share.
type fleetMetrics struct {
	a    *Accounting
	view func() *fleet.View
}

// FleetMetrics returns the metrics of the fleet's budget. Without one there are none.
func (a *Accounting) FleetMetrics(view func() *fleet.View) prometheus.Collector {
	return fleetMetrics{a, view}
}

func fleetMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_fleet_budget_"+name, help, []string{"key", "period"}, nil)
}

var (
	fleetLimit   = fleetMetric("limit_usd", "USD that all boxes of the fleet may spend in the present window, by key (empty: all calls together) and period.")
	fleetSpent   = fleetMetric("spent_usd", "USD that all boxes have spent in the present window. What others have spent in the last seconds may be missing.")
	fleetGranted = fleetMetric("granted_usd", "USD that are granted to this box, and neither spent nor reserved.")
	fleetLeft    = fleetMetric("left_usd", "USD that are granted to no box.")
	fleetRenewed = fleetMetric("renewable", "1 if this box can get more of the limit, 0 if not: it has no connection to NATS, or the record was lost and the boxes put it together again. Then it spends what it has, and no more.")
	fleetGone    = fleetMetric("gone_usd", "USD that are granted to boxes that are not in the fleet now: they are reserved until the box is back or the window ends.")
)

// Describe implements prometheus.Collector.
func (m fleetMetrics) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{fleetLimit, fleetSpent, fleetGranted, fleetLeft, fleetGone, fleetRenewed} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (m fleetMetrics) Collect(all chan<- prometheus.Metric) {
	for _, b := range m.a.fleetBudgetStatus(m.view()) {
		all <- prometheus.MustNewConstMetric(fleetRenewed, prometheus.GaugeValue, map[bool]float64{true: 1}[b.Fleet.Problem == ""], b.Key, b.Period)
		gone := control.USD(0)
		for _, h := range b.Fleet.Gone {
			gone += h.Amount
		}
		for desc, amount := range map[*prometheus.Desc]control.USD{
			fleetLimit: b.Limit, fleetSpent: b.Spent, fleetGranted: b.Fleet.Granted, fleetLeft: b.Fleet.Left, fleetGone: gone,
		} {
			all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, usd.Amount(amount).Float(), b.Key, b.Period)
		}
	}
}
