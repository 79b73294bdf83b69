package collect

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/usd"
)

// accounting collects the metrics of the present routing's budgets and ledger.
// Without them there are no series.
type accounting struct{ routing Routing }

func budgetMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_budget_"+name, help, []string{"key", "period"}, nil)
}

func ledgerMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("llmsup_ledger_"+name, help, labels, nil)
}

var (
	budgetLimit    = budgetMetric("limit_usd", "USD that may be spent in the present window, by key (empty: all calls together) and period.")
	budgetSpent    = budgetMetric("spent_usd", "USD that were spent in the present window.")
	budgetReserved = budgetMetric("reserved_usd", "USD that are reserved for calls in flight.")

	ledgerCondition = ledgerMetric("condition", "1 for the present condition of the ledger: ok, behind, or spilling (its database or its journal cannot be used).", "condition")
	ledgerLag       = ledgerMetric("lag_seconds", "Age in seconds of the oldest call that is not in the ledger's database yet.")
	ledgerWaiting   = ledgerMetric("rows_waiting", "Calls in memory that are not written to the database yet.")
	ledgerLost      = ledgerMetric("rows_lost_total", "Calls that were not recorded. Only calls that cost nothing are dropped.")
	ledgerAside     = ledgerMetric("set_aside", "1 if a corrupt database was moved aside since llmsup's start, and a new one created.")
)

var ledgerConditions = []ledger.Condition{ledger.OK, ledger.Behind, ledger.Spilling}

// Describe implements prometheus.Collector.
func (m accounting) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		budgetLimit, budgetSpent, budgetReserved, ledgerCondition, ledgerLag, ledgerWaiting, ledgerLost, ledgerAside,
	} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (m accounting) Collect(all chan<- prometheus.Metric) {
	accounts := m.routing().Accounting
	for _, s := range accounts.Budget.Statuses(time.Now()) {
		for desc, amount := range map[*prometheus.Desc]usd.Amount{budgetLimit: s.Limit, budgetSpent: s.Spent, budgetReserved: s.Reserved} {
			all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, amount.Float(), LabelValue(s.Key), s.Period.String())
		}
	}
	if accounts.Ledger == nil {
		return
	}
	s := accounts.Ledger.State()
	collectStates(all, ledgerCondition, ledgerConditions, s.Condition)
	aside := 0.0
	if s.Quarantined != "" {
		aside = 1
	}
	for desc, value := range map[*prometheus.Desc]float64{ledgerLag: s.Lag.Seconds(), ledgerWaiting: float64(s.Waiting), ledgerAside: aside} {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	all <- prometheus.MustNewConstMetric(ledgerLost, prometheus.CounterValue, float64(s.Lost))
}
